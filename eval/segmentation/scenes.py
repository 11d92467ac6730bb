"""Pictures with a class for every pixel, from whatever they are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from PIL import Image

from eval.data import ImageSource, open_images
from eval.metrics.confusion import IGNORE
from eval.segmentation.benchmarks import BENCHMARKS, Benchmark


@dataclass(frozen=True)
class Scene:
    """One picture, and the class of each of its pixels, 255 = ignore."""

    index: int
    image: Image.Image
    truth: Int[np.ndarray, "h w"]


@dataclass(frozen=True)
class Scenes:
    """A source with masks; `class_names` are of the masks' values, () where they have none.

    `lookup` turns stored values into classes; `crop` is the side of the centre crop, after the short side was
    brought to it, None for whole pictures.
    """

    source: ImageSource
    class_names: tuple[str, ...] = ()
    lookup: Int[np.ndarray, "256"] | None = None
    crop: int | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def config(self) -> dict[str, object]:
        """What the truth depends on, beside the files themselves."""
        return {
            "data": self.source.digest,
            "classes": None if self.lookup is None else self.lookup.tolist(),
            "crop": self.crop,
        }

    def __getitem__(self, index: int) -> Scene:
        """Raises UnreadableImage for what cannot be decoded, and for a mask of no labelled pixel."""
        example = self.source[index]
        assert example.mask is not None
        image, truth = example.image, example.mask
        if truth.min() < 0 or truth.max() > IGNORE:
            reason = f"its mask reaches from {truth.min()} to {truth.max()}, not 0 to 255"
            raise self.source.unreadable(index, reason)
        if self.lookup is not None:
            truth = self.lookup[truth]
        if self.crop is not None:
            image, truth = _cropped(image, truth, self.crop)
        if (truth == IGNORE).all():
            raise self.source.unreadable(index, "its mask has no labelled pixel")
        return Scene(index, image, truth)


def open_scenes(data: str, class_names: Sequence[str] = (), split: str | None = None) -> Scenes:
    """`coco-stuff27:ROOT`, `cityscapes:ROOT`, or a source with masks of `eval.data.open_images`.

    Raises ValueError for a source without masks, and for what is not there.
    """
    kind, _, root = data.partition(":")
    if kind in BENCHMARKS and root:
        return _of_benchmark(BENCHMARKS[kind](root))
    source = open_images(data, split=split)
    if not source.has_masks:
        raise ValueError(
            f"{data} has no masks; expected a parquet file with a column mask, or a folder with images and "
            "masks"
        )
    return Scenes(source, tuple(class_names))


def _of_benchmark(benchmark: Benchmark) -> Scenes:
    return Scenes(benchmark.source, benchmark.class_names, benchmark.lookup, benchmark.crop)


def _cropped(
    image: Image.Image, truth: Int[np.ndarray, "h w"], side: int
) -> tuple[Image.Image, Int[np.ndarray, "side side"]]:
    """Short side to `side` (bilinear, the truth nearest), then the centre."""
    factor = side / min(image.size)
    size = (max(side, round(image.width * factor)), max(side, round(image.height * factor)))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    box = (left, top, left + side, top + side)
    mask = Image.fromarray(truth.astype(np.uint8)).resize(size, Image.Resampling.NEAREST).crop(box)
    return image.resize(size, Image.Resampling.BILINEAR).crop(box), np.asarray(mask).astype(np.int64)
