"""Images of a source as batches that a classifier takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eval.data import ImageSource, UnreadableImage
from eval.preprocess import Preprocessing


@dataclass(frozen=True)
class Batch:
    """Normalised images, the class of each, and which image of its source each is."""

    images: Float[Tensor, "images 3 height width"]
    labels: Int[Tensor, " images"]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Stream:
    """Reads `source` in batches of `size`; `classes` are those of its images by index."""

    source: ImageSource
    preprocessing: Preprocessing
    classes: Mapping[int, int]
    size: int

    def batches(self, indices: Iterable[int]) -> Iterator[Batch | UnreadableImage]:
        """The images of these indices, in their order, the last batch maybe shorter; and what is no image."""
        waiting: list[tuple[int, Tensor]] = []
        for index in indices:
            try:
                waiting.append((index, self.preprocessing(self.source[index].image)))
            except UnreadableImage as error:
                yield error
            if len(waiting) == self.size:
                yield self._batch(waiting)
                waiting = []
        if waiting:
            yield self._batch(waiting)

    def _batch(self, waiting: list[tuple[int, Tensor]]) -> Batch:
        indices, images = zip(*waiting, strict=True)
        return Batch(torch.stack(images), torch.tensor([self.classes[index] for index in indices]), indices)
