"""What a program tells its user beside the result: lines, warnings and bars on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

Item = TypeVar("Item", covariant=True)


class Items(Protocol[Item]):
    """What has a length and can be gone through."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


def counted(count: int, things: str) -> str:
    """ "1 image", "2 images"."""
    return f"{count} {things}{'' if count == 1 else 's'}"


def say(text: str) -> None:
    """Print one line on stderr, whatever `text` holds, without breaking a progress bar."""
    from tqdm import tqdm  # a tenth of a second, and most commands have nothing to say before work begins

    tqdm.write(" ".join(text.split()), file=sys.stderr)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Warnings as one line each, once; what libraries tell developers of coming changes is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("once")
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        yield


def progress(items: Items[Item], what: str, done: int = 0) -> Iterator[Item]:
    """Go through `items` with a bar on stderr, whose total includes `done`, finished by an earlier run.

    Where nothing is left there is no bar.
    """
    if not len(items):
        return
    from tqdm import tqdm  # not before there is something to wait for

    total = len(items) + done
    yield from tqdm(items, desc=what, total=total, initial=done, file=sys.stderr, dynamic_ncols=True)
