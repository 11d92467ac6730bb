"""What a command tells its user beside the result."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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
