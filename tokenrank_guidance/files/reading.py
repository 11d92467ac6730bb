"""Opening files: regular ones alone, never a pipe or a device, and not beyond a folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from tokenrank_guidance.files.limits import BYTES, LINKS, follows_links


def open_regular(path: Path) -> BinaryIO:
    """A regular file for reading; ValueError for a pipe, a device or a folder, OSError as `open` does.

    Others are not even opened: a pipe would wait for a writer for ever, and a device acts on being opened.
    """
    _check_regular(os.stat(path))
    # Without blocking: between the two calls it may have become a pipe.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    try:
        _check_regular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def read_file(path: Path, within: Path | None = None) -> bytes:
    """The contents of a regular file that lies in the folder `within`, if one is given.

    Raises ValueError for a path or a link that leads out of it, for a file of more than `BYTES`, and as
    `open_regular`; its text leaves it to the caller to name the file.
    """
    if within is not None and not lies_in(path, within):
        raise ValueError(f"it leads out of {within}; set {LINKS}=1 to follow links there")
    limit = BYTES.value
    with open_regular(path) as file:
        data = file.read(limit + 1)
    BYTES.check(len(data), "it has more bytes than are read")
    return data


def lies_in(path: Path, folder: Path) -> bool:
    """Whether the path, links followed, is in the folder; every path is where links are to be followed."""
    return follows_links() or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def read_json(path: Path) -> Any:
    """What a JSON file holds; ValueError that names it for another one, OSError for none."""
    try:
        data = read_file(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return parse_json(data, path)


def parse_json(data: bytes | str, where: object) -> Any:
    """JSON as Python's; ValueError that names `where` for anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from error


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise ValueError(f"it is {kind}; expected a regular file")
