"""Pictures of one object each, with its mask and the word for it.

`imagenet-seg:MAT` is ImageNet-Segmentation, `gtsegs_ijcv.mat` (Guillaumin et al. 2014): an HDF5 file of
references, `/value/img` to pictures and `/value/gt` to one mask each, stored column by column. It has no
names: give them by `--names`. Needs h5py.

`voc:ROOT` is a PASCAL VOC folder, such as VOCdevkit/VOC2012:

    ROOT/ImageSets/Segmentation/val.txt       names of pictures, one a line
    ROOT/JPEGImages/NAME.jpg
    ROOT/SegmentationClass/NAME.png           palette indices 1 to 20, 0 background, 255 ignored

of which the pictures with exactly one class are taken, as ConceptAttention does for single objects.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from eval.data import ImageSource, open_images
from eval.data.decode import decode_mask
from eval.data.folder import FolderImages
from eval.data.source import Table
from eval.metrics.confusion import IGNORE
from tokenrank_guidance.files.digest import file_digest, joint_digest
from tokenrank_guidance.files.limits import PIXELS
from tokenrank_guidance.files.lines import read_lines
from tokenrank_guidance.files.reading import open_regular, read_file

VOC_NAMES = tuple(
    """airplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,table,dog,horse,motorbike,person,plant,sheep,
    sofa,train,television""".replace("\n    ", "").split(",")
)


@dataclass(frozen=True)
class Labelled:
    """One picture, its object's mask (0, 1, 255 = ignore) and the word for it."""

    index: int
    image: Image.Image
    mask: Int[np.ndarray, "h w"]
    word: str


@dataclass(frozen=True)
class Objects:
    """A source with masks and the word for each picture; `values`: which mask value is its object."""

    source: ImageSource
    words: Sequence[str]
    values: Sequence[int]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def config(self) -> dict[str, object]:
        """What the truth depends on."""
        return {"data": self.source.digest, "words": joint_digest((word, "") for word in self.words)}

    def __getitem__(self, index: int) -> Labelled:
        """UnreadableImage for what cannot be decoded, another mask value, and a mask without both classes."""
        example = self.source[index]
        assert example.mask is not None
        known = {0, self.values[index], IGNORE}
        found = set(np.unique(example.mask).tolist())
        if not found <= known:
            reason = f"its mask has values {sorted(found - known)}, expected 0, 1 and 255"
            raise self.source.unreadable(index, reason)
        if self.values[index] not in found:
            raise self.source.unreadable(index, "its mask has no pixel of the object")
        mask = np.where(example.mask == self.values[index], 1, example.mask)
        return Labelled(index, example.image, mask, self.words[index])


def open_objects(data: str, concept: str | None, names: Path | None, split: str | None = None) -> Objects:
    """`imagenet-seg:MAT`, `voc:ROOT`, or a source with masks of `eval.data.open_images`.

    The words are `concept` for all, the lines of `names`, or the labels. Raises ValueError for a source
    without masks or words, and for another number of names than of pictures.
    """
    kind, _, root = data.partition(":")
    if kind == "voc" and root:
        return _voc(Path(root).expanduser())
    source = MatImages(Path(root).expanduser()) if kind == "imagenet-seg" else open_images(data, split=split)
    if not source.has_masks:
        raise ValueError(
            f"{data} has no masks; expected a parquet file with a column mask, a folder with images and "
            "masks, imagenet-seg:MAT or voc:ROOT"
        )
    return Objects(source, _words(source, concept, names), [1] * len(source))


def _words(source: ImageSource, concept: str | None, names: Path | None) -> list[str]:
    if concept is not None:
        return [concept] * len(source)
    if names is None:
        words = [label for label in source.labels if label is not None]
        if len(words) != len(source):
            raise ValueError(f"{source.name} has no labels: give --concept or --names")
        return words
    words = [line.strip() for line in read_lines(names)]
    if "" in words:
        raise ValueError(f"{names}: line {words.index('') + 1} is blank; line n is the name of picture n")
    if len(words) != len(source):
        raise ValueError(f"{names} has {len(words)} names for {len(source)} pictures")
    return words


def _voc(root: Path) -> Objects:
    listed = root / "ImageSets" / "Segmentation" / "val.txt"
    if not listed.is_file():
        raise ValueError(f"there is no {listed}; expected a PASCAL VOC folder")
    images, masks, classes = [], [], []
    for name in filter(None, map(str.strip, read_lines(listed))):
        mask = root / "SegmentationClass" / f"{name}.png"
        present = [one for one in np.unique(_read_mask(mask, root)).tolist() if 0 < one < IGNORE]
        if len(present) == 1 and present[0] <= len(VOC_NAMES):
            images.append(root / "JPEGImages" / f"{name}.jpg")
            masks.append(mask)
            classes.append(present[0])
    if not images:
        raise ValueError(f"{root} has no picture of a single class")
    words = [VOC_NAMES[one - 1] for one in classes]
    table = Table(root.name, words, [None] * len(words), VOC_NAMES, has_masks=True)
    return Objects(FolderImages(table, root, images, masks), words, classes)


def _read_mask(path: Path, root: Path) -> Int[np.ndarray, "h w"]:
    try:
        return decode_mask(read_file(path, root))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a mask: {error}") from error


class MatImages(ImageSource):
    """ImageNet-Segmentation's file; ValueError for another, ImportError without h5py."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            raise ImportError("imagenet-seg needs h5py: pip install h5py") from error
        try:
            open_regular(path).close()
            self._file: Any = h5py.File(path, "r")
            count = len(self._file["/value/img"])
        except (OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not ImageNet-Segmentation's gtsegs_ijcv.mat: {reason}") from error
        self._path = path
        super().__init__(Table(path.name, [None] * count, [None] * count, has_masks=True))

    @cached_property
    def digest(self) -> str:
        return file_digest(self._path)

    def encoded(self, index: int) -> tuple[bytes, bytes | None]:
        try:
            picture, masks = (self._at("/value/" + name, index) for name in ("img", "gt"))
            pixels = _stored(picture).transpose(2, 1, 0)
            mask = _stored(self._file[masks[0, 0]]).transpose(1, 0)
        except (KeyError, TypeError, IndexError, RuntimeError) as error:  # h5py's, for a damaged file
            raise ValueError(f"its part of {self._path} is damaged: {error}") from error
        return _png(pixels), _png(mask)

    def _at(self, name: str, index: int) -> Any:
        return self._file[self._file[name][index, 0]]


def _stored(dataset: Any) -> np.ndarray:
    """Its values; ValueError for one that is stored in other files, or is too large."""
    if dataset.external or dataset.is_virtual:
        raise ValueError("it is stored in other files, which are not opened")
    PIXELS.check(dataset.size, f"it has {dataset.size} values")
    return np.array(dataset)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png")
    return buffer.getvalue()
