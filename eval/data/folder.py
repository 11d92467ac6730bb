"""Images as files in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from eval.data.listing import list_pictures
from eval.data.source import ImageSource, Table
from tokenrank_guidance.files.digest import file_digest, joint_digest
from tokenrank_guidance.files.pictures import SUFFIXES
from tokenrank_guidance.files.reading import read_file

PAIRED = ("images", "masks")


class FolderImages(ImageSource):
    """One file per image, and per mask."""

    def __init__(self, table: Table, root: Path, images: Sequence[Path], masks: Sequence[Path]) -> None:
        super().__init__(table)
        self._root, self._images, self._masks = root, images, masks

    @cached_property
    def digest(self) -> str:
        files = (*self._images, *self._masks)
        return joint_digest((str(path.relative_to(self._root)), file_digest(path)) for path in files)

    def encoded(self, index: int) -> tuple[bytes, bytes | None]:
        mask = read_file(self._masks[index], self._root) if self._masks else None
        return read_file(self._images[index], self._root), mask

    def file(self, index: int) -> str:
        return str(self._images[index])


def open_folder(folder: Path, split: str | None, limit: int | None) -> FolderImages:
    """List a folder's images in the order of their names; raises ValueError where there are none."""
    root = folder if split is None else folder / split
    if not root.is_dir():
        raise ValueError(f"{folder} has no subfolder {split} for split {split!r}")
    pictures = list_pictures(root)
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if folders == set(PAIRED):
        return _paired(root, pictures, limit)
    nested = [path for path in pictures if path.parent != root]
    if nested and len(nested) < len(pictures):
        raise ValueError(f"{root} has images beside subfolders of images; expected one or the other")
    images = pictures[:limit]
    labels = [path.relative_to(root).parts[0] if nested else None for path in images]
    if not images:
        raise ValueError(f"there is no image in {root}; expected files ending in {', '.join(SUFFIXES)}")
    nothing = [None] * len(images)
    return FolderImages(Table(root.name, labels, nothing), root, images, ())


def _paired(root: Path, pictures: Sequence[Path], limit: int | None) -> FolderImages:
    images, masks = ([path for path in pictures if path.parent == root / name] for name in PAIRED)
    by_stem = {path.stem: path for path in masks}
    alone = [path.name for path in images if path.stem not in by_stem]
    if alone or not images:
        raise ValueError(f"{root / 'masks'} has no mask for {', '.join(alone[:5]) or 'any image'}")
    images = images[:limit]
    nothing = [None] * len(images)
    table = Table(root.name, nothing, nothing, has_masks=True)
    return FolderImages(table, root, images, [by_stem[path.stem] for path in images])
