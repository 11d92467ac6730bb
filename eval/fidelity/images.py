"""The images to measure: what `eval.generate` drew, folders of others, and the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from eval.data import ImageSource, UnreadableImage
from eval.data.listing import list_pictures
from eval.generate.store import JOURNALS, MANIFEST, images_of, read_manifest
from tokenrank_guidance.files.digest import file_digest, joint_digest
from tokenrank_guidance.files.pictures import SUFFIXES, decode_image
from tokenrank_guidance.files.reading import read_file


@dataclass(frozen=True)
class Generated(Dataset):
    """One arm's images as uint8 (3, h, w), in the order of their indices.

    `labels` are the classes that the prompts name; `pairing` is what two arms have alike if image i of one
    and of the other are of one prompt and seed, None where that is not known. `drawn`: by which command and
    commit, with which settings, where `eval.generate` drew them.
    """

    arm: str
    paths: Sequence[Path]
    labels: Sequence[str | None]
    pairing: str | None = None
    cost: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 h w"]:
        path = self.paths[index]
        try:
            return to_pixels(decode_image(read_file(path)))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}); remove it and, if eval.generate drew it, run that again"
            ) from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files' contents, in their order."""
        return joint_digest(file_digest(path) for path in self.paths)

    def first(self, n: int) -> Generated:
        return replace(self, paths=self.paths[:n], labels=self.labels[:n])


@dataclass(frozen=True)
class Reference(Dataset):
    """Real images as uint8 (3, side, side): centre-cropped and resampled to `side`, or as they are."""

    source: ImageSource
    indices: Sequence[int]
    side: int | None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 h w"]:
        try:
            image = self.source[self.indices[index]].image
        except UnreadableImage as error:
            raise ValueError(f"the reference {self.source.name}: {error}") from error
        return to_pixels(image if self.side is None else square(image, self.side))

    @cached_property
    def digest(self) -> str:
        return joint_digest((self.source.digest, tuple(self.indices), self.side))


@dataclass(frozen=True)
class Uniform(Dataset):
    """Images of one size, as a batch must be; reading one of another size raises ValueError."""

    images: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 h w"]:
        image = self.images[index]
        if image.shape != self._shape:
            (height, width), (rows, columns) = image.shape[1:], self._shape[1:]
            raise ValueError(
                f"image {index} is {width}×{height}, the first {columns}×{rows}; expected one size"
            )
        return image

    @cached_property
    def _shape(self) -> torch.Size:
        return self.images[0].shape


def to_pixels(image: Image.Image) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def square(image: Image.Image, side: int) -> Image.Image:
    """The largest centred square, resampled (bicubic, antialiased); untouched if it has that size."""
    if image.size == (side, side):
        return image
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    crop = image.crop((left, top, left + short, top + short))
    return crop.resize((side, side), Image.Resampling.BICUBIC)


def open_generated(folders: Iterable[Path]) -> list[Generated]:
    """The arms in these folders: arms themselves, folders of arms, or folders of any images.

    Arms of one name are told apart by the folders around them. Raises ValueError for a folder without images,
    one that `eval.generate` has not finished, and one that is given twice.
    """
    opened = [folder.resolve() for path in folders for folder in _arms(path)]
    twice = [str(folder) for folder, count in Counter(opened).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} is given more than once")
    sets = {folder: _open(folder) for folder in opened}
    return [replace(one, arm=_name(folder, sets)) for folder, one in sets.items()]


def _name(folder: Path, sets: Mapping[Path, Generated]) -> str:
    """The arm's name, after as many of the folders around it as tell it from others of that name."""
    arm = sets[folder].arm
    others = [other for other, one in sets.items() if one.arm == arm and other != folder]
    for depth in range(len(folder.parts)):
        around = folder.parts[-depth - 1 : -1]
        if all(other.parts[-depth - 1 : -1] != around for other in others):
            return "/".join([*around, arm])
    return f"{folder}/{arm}"


def _arms(path: Path) -> list[Path]:
    if not path.is_dir():
        raise ValueError(f"{path} is no folder; expected one that eval.generate wrote, or one of images")
    inside = [child for child in sorted(path.iterdir()) if _written(child)]
    return [path] if _written(path) or not inside else inside


def _written(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MANIFEST).is_file() or any(folder.glob(JOURNALS)))


def _open(folder: Path) -> Generated:
    if not _written(folder):
        return _plain(folder)
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        raise ValueError(f"{folder} is not complete: run eval.generate again to finish it") from None
    paths = list(images_of(folder, manifest))
    pairing = f"{manifest.digest} from seed {manifest.seed}"
    lost = [path for path in paths if not path.is_file()]
    if lost:
        raise ValueError(f"{folder} lacks {len(lost)} images, as {lost[0].name}: run eval.generate again")
    cycled = list(islice(cycle(manifest.labels), len(paths)))
    drawn = {"command": manifest.command, "commit": manifest.commit} | manifest.settings
    return Generated(manifest.arm, paths, cycled, pairing, manifest.cost, drawn)


def _plain(folder: Path) -> Generated:
    paths = list_pictures(folder)
    if not paths:
        raise ValueError(f"there is no image in {folder}; expected files ending in {', '.join(SUFFIXES)}")
    return Generated(folder.name, paths, [None] * len(paths))
