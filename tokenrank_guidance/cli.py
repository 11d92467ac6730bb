"""The `tokenrank` program: finds the command, prints its result, turns mistakes into one line each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import NoReturn

import torch

from tokenrank_guidance.commands.messages import one_line_warnings, say
from tokenrank_guidance.errors import TokenRankError

# Each is a module of `tokenrank_guidance.commands`, imported only when it is asked for.
COMMANDS = {
    "sample": "Draw images from a diffusion model without guidance, with SAG or with TokenRank.",
    "segment": "Split an image into segments by a diffusion model's attention, with anchors by TokenRank.",
    "explain": "Show where attention leads from a word, bounce by bounce.",
}
MISTAKES = (TokenRankError, ValueError, OSError, ImportError, torch.OutOfMemoryError)
FAILED, INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser that raises ValueError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: its result as one JSON object on stdout, everything else on stderr.

    Returns the exit code: 0, 2 after a mistake that one line on stderr explains, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        with one_line_warnings(), redirect_stdout(sys.stderr):  # whatever a library prints is not the result
            arguments = _parser(argv).parse_args(argv)
            result = arguments.run(arguments)
        print(json.dumps(result, indent=2, allow_nan=False), flush=True)
    except MISTAKES as error:
        say(f"error: {error or type(error).__name__}")
        return FAILED
    except KeyboardInterrupt:
        say("interrupted: nothing was written")
        return INTERRUPTED
    return 0


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; of the commands, only the one that `argv` names gets its arguments."""
    parser = _Parser(prog="tokenrank", description="Attention as a Markov chain.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name in argv:
            module = import_module(f"tokenrank_guidance.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
