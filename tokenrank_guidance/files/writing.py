"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

RESULT, SCRATCH = "result.json", ".tokenrank-"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder whose files become `folder`'s if the block ends well, and vanish if it does not.

    The result is replaced whole: files that an earlier `result.json` lists go, files of the same names too,
    others stay; the new `result.json` comes last, so that where it is, the files it lists are. Folders made
    for nothing are removed. Raises OSError at once, before the block, where `folder` cannot be written or
    another run is writing it.
    """
    with _made(folder), _locked(folder):
        _sweep(folder)
        with scratch_in(folder) as scratch:
            yield scratch
            earlier = _listed(folder)
            (folder / RESULT).unlink(missing_ok=True)
            for path in earlier:
                path.unlink(missing_ok=True)
            for path in sorted(scratch.iterdir(), key=lambda path: path.name == RESULT):
                os.replace(path, folder / path.name)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """As `staged`, for one file in a folder that is not this run's own: nothing beside it is touched."""
    with _made(path.parent):
        _sweep(path.parent)
        with scratch_in(path.parent) as scratch:
            yield scratch
            os.replace(scratch / path.name, path)


def write_result(folder: Path, result: Mapping[str, object]) -> None:
    """Write `result.json` into a scratch folder of `staged`; ValueError for a number that is not finite."""
    (folder / RESULT).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a scratch file of the same name, then put it in place of `path`.

    Folders that are missing are made. Raises OSError, which names `path` or its folder, on failure.
    """
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_in(path.parent) as scratch, named_errors(path):
        write(scratch / path.name)
        os.replace(scratch / path.name, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    write_whole(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def check_writable(folder: Path) -> None:
    """OSError now, before hours of work, for a folder that cannot be written or made."""
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with scratch_in(folder):
        pass


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """`folder` is there in the block; after it again not, if it was not before and nothing came into it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with named_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # not empty: it has the results
                path.rmdir()


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """An OSError of the block names what could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write to {path}: {error.strerror or error}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder is this process's in the block, even if it is killed in it."""
    with _opened(folder) as number:
        if not _lock(number):
            raise OSError(f"{folder} is being written by another run; wait for it or choose another folder")
        yield


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, on the same file system, so that moving out of it is atomic."""
    with named_errors(folder):
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
    try:
        with _opened(scratch) as number:
            _lock(number)
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed runs have left: a scratch folder is locked as long as its process lives."""
    for left in folder.glob(f"{SCRATCH}*"):
        with suppress(OSError), _opened(left) as number:
            if _lock(number):
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield number
    finally:
        os.close(number)


def _lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listed(folder: Path) -> list[Path]:
    """The files beside an earlier result that it lists; none where there is no such result."""
    try:
        names = [Path(name).name for name in json.loads((folder / RESULT).read_text())["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [path for name in names if name and (path := folder / name).is_file()]
