"""Passes that are nobody's to watch: an extra one, made inside the pass that its caller asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

_here = local()


@contextmanager
def unwatched(but: object = None) -> Iterator[None]:
    """Nothing of this project watches what this thread runs in the block, whatever is attached, `but` one."""
    before = is_unwatched(), getattr(_here, "but", None)
    _here.active, _here.but = True, but
    try:
        yield
    finally:
        _here.active, _here.but = before


def is_unwatched(by: object = None) -> bool:
    return getattr(_here, "active", False) and (by is None or by is not _here.but)
