"""Writing results so that they are there completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RESULT = "result.json"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder whose files move into `folder` if the block ends well, and vanish if it does not.

    Files of the same names are replaced, `result.json` last: where it is, the files it lists are too. Folders
    made for nothing are removed. Raises OSError at once, before the block, where `folder` cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _scratch(folder) as scratch:
            yield scratch
            for path in sorted(scratch.iterdir(), key=lambda path: path.name == RESULT):
                os.replace(path, folder / path.name)
    finally:
        for path in missing:
            with suppress(OSError):  # not empty: it has the results
                path.rmdir()


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, on the same file system, so that moving out of it is atomic."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tokenrank-", dir=folder))
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
