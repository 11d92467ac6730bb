"""The training images as tensors: labelled pictures from one parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Generator, Tensor

from tokenrank_guidance.files.cells import image_bytes
from tokenrank_guidance.files.pictures import decode_image
from tokenrank_guidance.tiny.tokenizer import LABELS


@dataclass(frozen=True)
class LabelledImages:
    """Square RGB images with the index of each one's label in `LABELS`."""

    pixels: UInt8[Tensor, "n 3 side side"]
    labels: Int[Tensor, " n"]

    def weights(self) -> Float[Tensor, " n"]:
        """Sampling weight ∝ 1/√(images of the same label): rare labels are seen more, not equally often."""
        counts = torch.bincount(self.labels, minlength=len(LABELS)).clamp(min=1)
        return counts[self.labels].float().rsqrt()


def load_images(path: Path) -> LabelledImages:
    """Read a parquet file with columns `image` (square, one size) and `label` (a name in `LABELS`)."""
    rows = read_rows(path)
    unknown = sorted(set(rows["label"]) - set(LABELS))
    if unknown:
        raise ValueError(f"labels {unknown} in {path} are not among the known ones: {', '.join(LABELS)}")
    pixels = np.stack([np.asarray(image) for image in pictures(rows["image"], path)])
    labels = torch.tensor([LABELS.index(label) for label in rows["label"]])
    return LabelledImages(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels)


def read_rows(path: Path) -> Any:
    """The rows of one parquet file, their images still encoded; ValueError where there is none."""
    import datasets  # not needed to use the models
    from datasets.exceptions import DatasetsError

    if not path.is_file():
        raise ValueError(f"no data file at {path}; expected a parquet file with a column of images")
    try:
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train")
        return rows.cast_column("image", datasets.Image(decode=False))
    except (DatasetsError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no parquet file with a column of images: {error}") from error


def pictures(cells: Iterable[object], path: Path, first: int = 0) -> Iterator[Image.Image]:
    """The decoded images of `read_rows(path)` from row `first` on; ValueError that says which is damaged."""
    for index, cell in enumerate(cells, first):
        try:
            yield decode_image(image_bytes(cell, path.parent))
        except (OSError, ValueError) as error:
            raise ValueError(f"image {index} of {path} cannot be read: {error}") from error


def to_signed(pixels: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Pixels 0…255 as floats in [−1, 1]."""
    return pixels.float() / 127.5 - 1.0


def resize(images: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 side side"]:
    """Antialiased resampling to side×side; what has that size stays as it is."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def random_views(
    pixels: UInt8[Tensor, "b 3 s s"], side: int, smallest: float, generator: Generator
) -> Float[Tensor, "b 3 side side"]:
    """One random square crop for the whole batch, at least `smallest` of the full side, mirrored by half.

    A fresh `generator` of the pixels' device decides; where the crop lies is drawn from its seed on the host,
    as a GPU that is asked would have to be waited for.
    """
    full, place = pixels.shape[-1], Random(generator.initial_seed())
    crop = int(full * place.uniform(smallest, 1))
    top, left = (place.randint(0, full - crop) for _ in range(2))
    views = to_signed(pixels[..., top : top + crop, left : left + crop])
    mirrored = torch.rand(len(views), 1, 1, 1, generator=generator, device=pixels.device) < 0.5
    return resize(torch.where(mirrored, views.flip(-1), views), side)
