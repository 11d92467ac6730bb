"""What is kept of every finished image, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Iterator

from eval.kept import Tensors
from eval.masking.measure import Outcome
from eval.schema import Count, Record, Share
from tokenrank_guidance.report import Json

DIGITS = 6


class Measured(Record):
    """The place of the true class and its probability, by arm and point of the curve; null: not a number."""

    rank: list[list[Count]]
    probability: list[list[Share | None]]

    def check(self, expected: tuple[int, int]) -> None:
        """ValueError for other numbers than those of `expected` = (arms, points)."""
        for name, rows in (("rank", self.rank), ("probability", self.probability)):
            if [len(row) for row in rows] != [expected[1]] * expected[0]:
                raise ValueError(f"{name} is not {expected[0]} rows of {expected[1]}")


def recorded(outcome: Outcome) -> Iterator[Json]:
    """Each image of a measured batch as `Measured` describes it."""
    for rank, probability in zip(outcome.rank.tolist(), outcome.probability.tolist(), strict=True):
        yield {"rank": rank, "probability": [[round(value, DIGITS) for value in arm] for arm in probability]}


def features_fit(tensors: Tensors, shape: tuple[int, int]) -> bool:
    """Whether an image's kept `features` are (arms, points, dim) of this `shape`, and finite."""
    features = tensors.get("features")
    if features is None or features.ndim != 3:
        return False
    return features.shape[:2] == shape and bool(features.isfinite().all())
