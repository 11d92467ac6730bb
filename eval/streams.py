"""Where results go, and where all else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

_results: ContextVar[TextIO | None] = ContextVar("results", default=None)


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
