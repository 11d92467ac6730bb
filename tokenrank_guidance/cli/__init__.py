"""The `tokenrank` program: finds the command, prints its result, turns mistakes into one line each.

A command is a module with `run(arguments) -> result`; `NAME_options` beside it has `SUMMARY`,
`add_arguments(parser)` and `check(arguments)`, and imports nothing heavy: the one brings torch, the other is
light. There is no list of commands: where these two are, a command is. `eval` is one more: see `experiments`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from tokenrank_guidance.cli import experiments
from tokenrank_guidance.program import LOST, ended, parser_of, results_only

OPTIONS = "_options"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: its result as one JSON object on stdout, everything else on stderr.

    Returns the exit code: 0, 2 after a mistake that one line on stderr explains, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == [experiments.NAME]:
        return experiments.main(argv[1:])
    return ended(lambda: _run(argv), LOST)


def _run(argv: Sequence[str]) -> None:
    arguments = _arguments(argv)
    with results_only():
        result = import_module(f"{__name__}.{arguments.command}").run(arguments)
    print(json.dumps(result, indent=2, allow_nan=False), flush=True)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, checked; of the commands, only the one that `argv` names gets its options described."""
    parser = parser_of("tokenrank", "Attention as a Markov chain.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in command_names():
        options = _options(name)
        summary = options.SUMMARY
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name in argv:
            options.add_arguments(command)
    commands.add_parser(experiments.NAME, help=experiments.SUMMARY)
    arguments, rest = parser.parse_known_args(argv)
    if rest:  # argparse itself names no command then
        commands.choices[arguments.command].error(f"unrecognized arguments: {' '.join(rest)}")
    _options(arguments.command).check(arguments)
    return arguments


def command_names() -> list[str]:
    """Every command, in alphabetical order."""
    modules = sorted(module.name for module in iter_modules(__path__))
    return [name.removesuffix(OPTIONS) for name in modules if name.endswith(OPTIONS)]


def _options(command: str) -> ModuleType:
    return import_module(f"{__name__}.{command}{OPTIONS}")
