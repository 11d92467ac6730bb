"""Encoded images in the cells of tables, which may name files instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenrank_guidance.files.limits import BYTES
from tokenrank_guidance.files.reading import lies_in, read_file


def image_bytes(cell: object, folder: Path, trusted: Sequence[Path] = ()) -> bytes:
    """The encoded image of one cell: bytes, or a mapping with `bytes` or the `path` of a file.

    A path is only followed if it is relative and stays in `folder`, that of the table, or lies in one of the
    `trusted` folders. Raises ValueError for an empty cell and for another path, OSError for no such file.
    """
    if isinstance(cell, Mapping):
        path = cell.get("path")
        if cell.get("bytes") is None and isinstance(path, str) and path:
            return _named(path, folder, trusted)
        cell = cell.get("bytes")
    if not isinstance(cell, bytes) or not cell:
        raise ValueError("there is no image in this row")
    BYTES.check(len(cell), f"it has {len(cell)} bytes")
    return cell


def _named(name: str, folder: Path, trusted: Sequence[Path]) -> bytes:
    path = Path(name)
    if any(path.is_absolute() and lies_in(path, one) for one in trusted):
        return read_file(path)
    if path.is_absolute():
        raise ValueError(f"its row names the file {name}; expected bytes, or a path relative to {folder}")
    return read_file(folder / path, within=folder)
