"""What the programs of this package share: arguments, progress, and mistakes in one line."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

from eval.streams import results_only
from tokenrank_guidance.commands.messages import one_line_warnings, say
from tokenrank_guidance.commands.options import at_least, file, finite, folder, named
from tokenrank_guidance.program import Parser, ended, escape_on_stdout, parser_of

__all__ = [
    "Parser",
    "at_least",
    "existing",
    "file",
    "finite",
    "folder",
    "fractions",
    "named",
    "names",
    "parser_of",
    "positive",
    "program",
    "progress",
    "run",
    "say",
    "words",
]

FAILED = 1
RESUMES = "interrupted: the same command resumes where this one stopped"
MOST_FRACTIONS = 1000
positive = at_least(1)
Item = TypeVar("Item", covariant=True)


class Items(Protocol[Item]):
    """What has a length and can be gone through."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


def program(package: str, argv: Sequence[str] | None = None) -> int:
    """`python -m PACKAGE`: `parse` of its `options`, then `main` of its `command`; the exit code as of `run`.

    Arguments are read before anything heavy is imported; `main` reads them again, which costs nothing.
    """
    given = sys.argv[1:] if argv is None else argv

    def work() -> None:
        import_module(f"{package}.options").parse(given)
        _quietly(lambda: import_module(f"{package}.command").main(given))

    return _ended(work)


def run(main: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)`, in which only `emit` reaches stdout, and return the exit code.

    0; 1 after a mistake, which one line on stderr explains; 130 after Ctrl-C, which leaves what a journal
    holds in place.
    """
    return _ended(lambda: _quietly(lambda: main(sys.argv[1:] if argv is None else argv)))


def _ended(work: Callable[[], object]) -> int:
    escape_on_stdout()
    with one_line_warnings():
        return ended(work, FAILED, RESUMES)


def _quietly(work: Callable[[], object]) -> None:
    with results_only():
        from tokenrank_guidance.quiet import quiet_libraries  # brings the libraries

        with quiet_libraries():
            work()


def progress(items: Items[Item], what: str, done: int = 0) -> Iterator[Item]:
    """Go through `items` with a bar on stderr, whose total includes `done`, finished by an earlier run."""
    from tqdm import tqdm  # not before there is something to wait for

    total = len(items) + done
    yield from tqdm(items, desc=what, total=total, initial=done, file=sys.stderr, dynamic_ncols=True)


def existing(text: str) -> Path:
    """A file or folder that is there."""
    path = file(text)
    if not path.exists():
        raise ArgumentTypeError(f"there is no file or folder {text}")
    return path


def names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names from `known`, or "all"; each is taken once, in the given order."""
    choice = tuple(known)

    def parse(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        unknown = [name for name in given if name not in choice and name != "all"]
        if unknown or not given:
            wrong = ", ".join(unknown) or "nothing"
            raise ArgumentTypeError(f"got {wrong}; expected some of {', '.join(choice)}, or all")
        return choice if "all" in given else given

    return parse


def words(text: str) -> tuple[str, ...]:
    """A parser of comma-separated words, at least one; each is taken once, in the given order."""
    given = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not given:
        raise ArgumentTypeError(f"got {text!r}; expected one or more, separated by commas")
    return given


def fractions(text: str) -> tuple[float, ...]:
    """Rising fractions in [0, 1]: a list ".1,.2,.5", or "first:last:step" with both ends, ".1:.9:.1"."""
    try:
        values = _stepped(text) if ":" in text else [float(part) for part in text.split(",")]
    except (ValueError, OverflowError):
        values = []
    rising = all(a < b for a, b in pairwise(values))
    if not values or not rising or not all(0 <= value <= 1 for value in values):
        raise ArgumentTypeError(f"got {text!r}; expected rising fractions in [0, 1], as .1,.2,.5 or .1:.9:.1")
    return tuple(values)


def _stepped(text: str) -> list[float]:
    first, last, step = (float(part) for part in text.split(":"))
    if not step > 0:
        raise ValueError("a step must be positive")
    count = int((last - first) / step + 1e-9) + 1
    if count > MOST_FRACTIONS:
        raise ArgumentTypeError(
            f"got {text!r}, which is {count} fractions; expected at most {MOST_FRACTIONS}"
        )
    return [round(first + i * step, 10) for i in range(count)]
