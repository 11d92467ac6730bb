"""What every program of this project shares: parser, exit codes, mistakes in one line, stdout for results."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from importlib import import_module
from io import TextIOWrapper
from traceback import clear_frames
from typing import Any, NoReturn, TextIO

from tokenrank_guidance import extras
from tokenrank_guidance.errors import TokenRankError
from tokenrank_guidance.memory import keep_pages
from tokenrank_guidance.messages import one_line_warnings, say

MISTAKES = (TokenRankError, ValueError, OSError, ImportError, FloatingPointError)
FAILED, INTERRUPTED = 2, 130  # exit codes: argparse's own, and a shell's of Ctrl-C
RESUMES = "interrupted: the same command resumes where this one stopped"
LOST = "interrupted: nothing was written"
LONGEST = 2000  # characters of a line: some messages quote what was given, whatever that is
# What torch says, in a plain RuntimeError, of an allocation that failed, or whose size it could not count.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "out of memory",
    "Cannot allocate memory",
    "_ALLOC_FAILED",
    "Storage size calculation overflowed",
)
_results: ContextVar[TextIO | None] = ContextVar("results", default=None)
_called: ContextVar[tuple[str, ...]] = ContextVar("called", default=())
_started: ContextVar[tuple[str, ...] | None] = ContextVar("started", default=None)


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's name
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from tokenrank_guidance import __version__

        print(f"tokenrank-guidance {__version__}")
        parser.exit()


def parser_of(prog: str, description: str | None) -> Parser:
    """A program's parser, without arguments yet but `--help` and `--version`; no option may be shortened.

    It bears the name that the running program was called by, and `prog` where none runs.
    """
    parser = Parser(prog=" ".join(_called.get()) or prog, description=description, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    return parser


def program(
    package: str,
    argv: Sequence[str] | None = None,
    interrupted: str = RESUMES,
    called: Sequence[str] | None = None,
) -> int:
    """`python -m PACKAGE`: `parse` of its `options`, then `main` of its `command`; exit codes as of `ended`.

    Arguments are read before anything heavy is imported, and before the packages of its extra are missed;
    `main` reads them again, which costs nothing. `called`: the words that started it, where they are others.
    """
    given = sys.argv[1:] if argv is None else argv

    def work() -> None:
        import_module(f"{package}.options").parse(given)
        extras.require(package.partition(".")[0])
        _quietly(lambda: import_module(f"{package}.command").main(given))

    with _being(called or ("python", "-m", package), given):
        return ended(work, interrupted)


def run(main: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)`, in which only `results_stream` is stdout; the exit code as of `ended`."""
    given = sys.argv[1:] if argv is None else argv
    with _being(("python", "-m", _module(main)), given):
        return ended(lambda: _quietly(lambda: main(given)), RESUMES)


def started() -> tuple[str, ...] | None:
    """The command that the running program was started by, with its arguments; None without one."""
    return _started.get()


@contextmanager
def _being(called: Sequence[str], arguments: Sequence[str]) -> Iterator[None]:
    name, command = _called.set(tuple(called)), _started.set((*called, *arguments))
    try:
        yield
    finally:
        _called.reset(name)
        _started.reset(command)


def _module(main: Callable[..., object]) -> str:
    """Where a function is from, by the name that `python -m` takes."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if main.__module__ == "__main__" and spec is not None else main.__module__


def ended(work: Callable[[], object], interrupted: str) -> int:
    """Do `work`, with warnings in one line each, and return the exit code.

    0; 2 after a mistake or for want of memory, which one line on stderr explains; 130 after Ctrl-C, with the
    line `interrupted`. What is nobody's mistake is raised.
    """
    escape_on_stdout()
    try:
        with one_line_warnings():
            work()
    except KeyboardInterrupt as interrupt:
        # A frame may hold a bar, which would be drawn again below the line.
        clear_frames(interrupt.__traceback__)
        say(interrupted)
        return INTERRUPTED
    except Exception as error:
        line = explained(error)
        if line is None:
            raise
        clear_frames(error.__traceback__)
        say(f"error: {line}")
        return FAILED
    return 0


def explained(error: Exception) -> str | None:
    """What to tell a user of `error`, None where it is a fault of the program."""
    if is_out_of_memory(error):
        said = str(error).strip().split("\n")[0]
        return f"not enough memory{said and ': '}{said}; ask for fewer pixels, or fewer images at once"
    if not isinstance(error, MISTAKES):
        return None
    text = extras.explained(error) if isinstance(error, ModuleNotFoundError) else str(error)
    text = text or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has an own error for a GPU's alone."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


@contextmanager
def results_only() -> Iterator[None]:
    """In the block `results_stream` is stdout, and whatever is printed goes to stderr."""
    token = _results.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results.reset(token)


def results_stream() -> TextIO:
    """The stdout that a program was started with."""
    return _results.get() or sys.stdout


def _quietly(work: Callable[[], object]) -> None:
    keep_pages()
    with results_only():
        from tokenrank_guidance.quiet import quiet_libraries  # brings the libraries

        with quiet_libraries():
            work()


def escape_on_stdout() -> None:
    """Write what stdout's encoding cannot hold as JSON's escapes: a letter must not fail a command."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="json")


def _as_json(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("json", _as_json)
