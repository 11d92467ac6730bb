"""Passes that are nobody's to watch: an extra one, made inside the pass that its caller asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

_here = local()


@contextmanager
def unwatched() -> Iterator[None]:
    """Nothing of this project watches what this thread runs in the block, whatever is attached."""
    before, _here.active = is_unwatched(), True
    try:
        yield
    finally:
        _here.active = before


def is_unwatched() -> bool:
    return getattr(_here, "active", False)
