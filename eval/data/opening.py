"""Finding out what a source is."""

from __future__ import annotations

import re
from pathlib import Path

from eval.data.source import ImageSource

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
KINDS = "a parquet file, a folder of images (one subfolder per class, or none), or the name of a Hub dataset"


def open_images(source: str | Path, *, split: str | None = None, limit: int | None = None) -> ImageSource:
    """Open a parquet file, a folder of images or a dataset of the Hub; only the first `limit` images of it.

    A parquet file has the columns `image` (encoded bytes, or a struct of bytes and path) and optionally
    `mask`, `label` (names, or indices with the names in the Hugging Face metadata) and `wnid`. A folder has
    one subfolder per class; or images alone, without labels; or `images` and `masks`, paired by name. `split`
    is a subfolder or the Hub's split. A string that names no file or folder is looked up on the Hub.

    Raises ValueError for what is none of these, has no images, or no such split; and for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")
    path = Path(source).expanduser()
    if path.is_dir():
        from eval.data.folder import open_folder

        return open_folder(path, split, limit)
    if path.is_file():
        from eval.data.parquet import open_parquet

        return open_parquet(path, split, limit)
    if isinstance(source, Path) or path.suffix == ".parquet" or not HUB_ID.fullmatch(source):
        raise ValueError(f"there is no file or folder {source}; expected {KINDS}")
    from eval.data.hub import open_hub

    return open_hub(source, split, limit)
