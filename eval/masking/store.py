"""What is kept of every finished image, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from eval.masking.measure import Outcome
from eval.schema import Count, Schema, Share
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole
from tokenrank_guidance.report import Json

DIGITS = 6


class Measured(Schema):
    """The place of the true class and its probability, by arm and point of the curve; null: not a number."""

    rank: list[list[Count]]
    probability: list[list[Share | None]]

    def check(self, shape: tuple[int, int]) -> None:
        """ValueError for another number of arms, or of points."""
        for name, rows in (("rank", self.rank), ("probability", self.probability)):
            if [len(row) for row in rows] != [shape[1]] * shape[0]:
                raise ValueError(f"{name} is not {shape[0]} rows of {shape[1]}")


def recorded(outcome: Outcome) -> Iterator[Json]:
    """Each image of a measured batch as `Measured` describes it."""
    for rank, probability in zip(outcome.rank.tolist(), outcome.probability.tolist(), strict=True):
        yield {"rank": rank, "probability": [[round(value, DIGITS) for value in arm] for arm in probability]}


@dataclass(frozen=True)
class Features:
    """Each image's features, a file each in `folder`; `shape` = (arms, points of the curve)."""

    folder: Path
    shape: tuple[int, int]

    def whole(self, image: int) -> bool:
        """Whether they are kept and not damaged."""
        try:
            return bool(self.load(image).isfinite().all())
        except ValueError:
            return False

    def add(self, images: Sequence[int], features: Float[Tensor, "images arms curve dim"]) -> None:
        """Keep those of a batch."""
        for image, own in zip(images, features, strict=True):
            tensors = {"features": own.contiguous()}
            write_whole(self._file(image), lambda path, tensors=tensors: save_tensors(tensors, path))

    def load(self, image: int) -> Float[Tensor, "arms curve dim"]:
        """ValueError where they are not whole."""
        features = load_tensors(self._file(image))[0].get("features")
        if features is None or features.ndim != 3 or features.shape[:2] != self.shape:
            raise ValueError(
                f"{self._file(image)} is damaged; run the same command to measure that image again"
            )
        return features

    def _file(self, image: int) -> Path:
        return self.folder / f"{image:06d}.safetensors"
