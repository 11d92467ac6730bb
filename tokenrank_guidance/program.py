"""What every program of this project shares: arguments, exit codes, and mistakes in one line."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
from collections.abc import Callable
from io import TextIOWrapper
from traceback import clear_frames
from typing import Any, NoReturn

from tokenrank_guidance.commands.messages import say
from tokenrank_guidance.errors import TokenRankError

MISTAKES = (TokenRankError, ValueError, OSError, ImportError, FloatingPointError)
INTERRUPTED = 130
LONGEST = 2000  # characters of a line: some messages quote what was given, whatever that is
# What torch says, in a plain RuntimeError, of an allocation that failed, or whose size it could not count.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "out of memory",
    "Cannot allocate memory",
    "_ALLOC_FAILED",
    "Storage size calculation overflowed",
)


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
    """A program's parser, without arguments yet but `--help` and `--version`; no option may be shortened."""
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    return parser


def ended(work: Callable[[], object], failed: int, interrupted: str) -> int:
    """Do `work` and return the exit code.

    0; `failed` after a mistake or for want of memory, which one line on stderr explains; 130 after Ctrl-C,
    with the line `interrupted`. What is nobody's mistake is raised.
    """
    try:
        work()
    except KeyboardInterrupt as interrupt:
        clear_frames(
            interrupt.__traceback__
        )  # they may hold a bar, which would be drawn again below the line
        say(interrupted)
        return INTERRUPTED
    except Exception as error:
        line = explained(error)
        if line is None:
            raise
        clear_frames(error.__traceback__)
        say(f"error: {line}")
        return failed
    return 0


def explained(error: Exception) -> str | None:
    """What to tell a user of `error`, None where it is a fault of the program."""
    if is_out_of_memory(error):
        said = str(error).strip().split("\n")[0]
        return f"not enough memory{said and ': '}{said}; ask for fewer pixels, or fewer images at once"
    if not isinstance(error, MISTAKES):
        return None
    text = str(error) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has an own error for a GPU's alone."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def escape_on_stdout() -> None:
    """Write what stdout's encoding cannot hold as JSON's escapes: a letter must not fail a command."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="json")


def _as_json(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("json", _as_json)
