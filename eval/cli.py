"""What the programs of this package share: arguments, progress, and mistakes in one line."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from traceback import clear_frames
from typing import NoReturn, Protocol, TypeVar

import torch
from tqdm import tqdm

from eval.report import results_only
from tokenrank_guidance.commands.messages import one_line_warnings, say
from tokenrank_guidance.commands.options import at_least, finite
from tokenrank_guidance.errors import TokenRankError
from tokenrank_guidance.quiet import quiet_libraries

__all__ = [
    "Parser",
    "at_least",
    "existing",
    "finite",
    "fractions",
    "names",
    "positive",
    "progress",
    "run",
    "say",
]

MISTAKES = (TokenRankError, ValueError, OSError, ImportError, torch.OutOfMemoryError)
FAILED, INTERRUPTED = 1, 130
positive = at_least(1)
Item = TypeVar("Item", covariant=True)


class Items(Protocol[Item]):
    """What has a length and can be gone through."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def run(main: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)`, in which only `emit` reaches stdout, and return the exit code.

    0; 1 after a mistake, which one line on stderr explains; 130 after Ctrl-C, which leaves what a journal
    holds in place.
    """
    try:
        with one_line_warnings(), quiet_libraries(), results_only():
            main(sys.argv[1:] if argv is None else argv)
    except MISTAKES as error:
        clear_frames(error.__traceback__)  # they may hold a bar, which would be drawn again below the line
        say(f"error: {error or type(error).__name__}")
        return FAILED
    except KeyboardInterrupt as interrupt:
        clear_frames(interrupt.__traceback__)
        say("interrupted: the same command resumes where this one stopped")
        return INTERRUPTED
    return 0


def progress(items: Items[Item], what: str, done: int = 0) -> Iterator[Item]:
    """Go through `items` with a bar on stderr, whose total includes `done`, finished by an earlier run."""
    total = len(items) + done
    yield from tqdm(items, desc=what, total=total, initial=done, file=sys.stderr, dynamic_ncols=True)


def existing(text: str) -> Path:
    """A file or folder that is there."""
    path = Path(text).expanduser()
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


def fractions(text: str) -> tuple[float, ...]:
    """Rising fractions in [0, 1]: a list ".1,.2,.5", or "first:last:step" with both ends, ".1:.9:.1"."""
    try:
        values = _stepped(text) if ":" in text else [float(part) for part in text.split(",")]
    except ValueError:
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
    return [round(first + i * step, 10) for i in range(count)]
