"""Images of a source as batches that a classifier takes; what cannot be read is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

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


@dataclass
class Stream:
    """Reads `source` in batches of `size`; `classes` gives the class of each of its images by index.

    Images that cannot be decoded are left out, handed to `skipped` and never end the stream.
    """

    source: ImageSource
    preprocessing: Preprocessing
    classes: Callable[[int], int]
    skipped: Callable[[UnreadableImage], None]
    size: int = 8
    _waiting: list[tuple[int, Tensor]] = field(default_factory=list)

    def batches(self, indices: Iterable[int]) -> Iterator[Batch]:
        """The images of these indices, in their order; the last batch may be shorter."""
        for index in indices:
            try:
                image = self.source[index].image
            except UnreadableImage as error:
                self.skipped(error)
                continue
            self._waiting.append((index, self.preprocessing(image)))
            if len(self._waiting) == self.size:
                yield self._take()
        if self._waiting:
            yield self._take()

    def _take(self) -> Batch:
        indices, images = zip(*self._waiting, strict=True)
        self._waiting.clear()
        labels = torch.tensor([self.classes(index) for index in indices])
        return Batch(torch.stack(images), labels, indices)
