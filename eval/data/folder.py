"""Images as files in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from eval.data.digest import file_digest, joint_digest
from eval.data.source import ImageSource, Table

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
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
        return self._images[index].read_bytes(), self._masks[index].read_bytes() if self._masks else None


def open_folder(folder: Path, split: str | None, limit: int | None) -> FolderImages:
    """List a folder's images in the order of their names; raises ValueError where there are none."""
    root = folder if split is None else folder / split
    if not root.is_dir():
        raise ValueError(f"{folder} has no subfolder {split} for split {split!r}")
    subfolders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if {path.name for path in subfolders} == set(PAIRED):
        return _paired(root, limit)
    classes = {path.name: _images(path.rglob("*")) for path in subfolders}
    flat = _images(root.iterdir())
    if flat and any(classes.values()):
        raise ValueError(f"{root} has images beside subfolders of images; expected one or the other")
    if flat:
        classes = {None: flat}
    labels, images = _listed(classes, limit)
    if not images:
        raise ValueError(f"there is no image in {root}; expected files ending in {', '.join(SUFFIXES)}")
    nothing = [None] * len(images)
    return FolderImages(Table(root.name, labels, nothing), root, images, ())


def _listed(classes, limit: int | None) -> tuple[list[str | None], list[Path]]:
    pairs = [(label, path) for label, paths in classes.items() for path in paths][:limit]
    return [label for label, _ in pairs], [path for _, path in pairs]


def _images(paths) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def _paired(root: Path, limit: int | None) -> FolderImages:
    images, masks = (_images((root / name).iterdir()) for name in PAIRED)
    by_stem = {path.stem: path for path in masks}
    alone = [path.name for path in images if path.stem not in by_stem]
    if alone or not images:
        raise ValueError(f"{root / 'masks'} has no mask for {', '.join(alone[:5]) or 'any image'}")
    images = images[:limit]
    nothing = [None] * len(images)
    table = Table(root.name, nothing, nothing, has_masks=True)
    return FolderImages(table, root, images, [by_stem[path.stem] for path in images])
