"""A program's help, from its own parser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from unittest.mock import patch

WIDTH = "100"
COMMAND = "tokenrank"


def help_of(program: str) -> str:
    """What `--help` prints: of `tokenrank COMMAND`, or of a package that `python -m` runs."""
    name, *words = program.split()
    printed = StringIO()
    with patch.dict(os.environ, COLUMNS=WIDTH, NO_COLOR="1"), redirect_stdout(printed):
        try:
            _start(name, [*words, "--help"])
        except SystemExit as end:
            if end.code:
                raise ValueError(f"{program} --help ended with {end.code}") from end
    return printed.getvalue()


def _start(name: str, argv: Sequence[str]) -> None:
    if name == COMMAND:
        import_module("tokenrank_guidance.cli").main(argv)
    else:
        import_module(f"{name}.options").parse(argv)
