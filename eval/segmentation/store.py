"""What is kept of every finished picture, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, Strict
from torch import Tensor

from diffseg.vote import pixel_counts
from eval.kept import Tensors
from eval.metrics.confusion import IGNORE
from eval.metrics.matching import overlap_matrix
from eval.schema import Count, OfArms, Schema, Share
from eval.segmentation.arms import Arm
from eval.segmentation.measure import Outcome
from eval.segmentation.tally import ClassTally, matched_per_image
from tokenrank_guidance.report import Json

ClassIndex = Annotated[int, Field(ge=0, lt=IGNORE)]
Overlap = Int[np.ndarray, "segments classes"]


class MeasuredArm(Schema):
    """One arm of a picture; each class is a `ClassTally`."""

    classes: list[Annotated[tuple[ClassIndex, Count, Count, Count, Share], Strict(False)]]
    segments: Count
    threshold: float
    seconds: float


class Measured(OfArms):
    """A finished picture in the journal."""

    attention: float
    arms: dict[str, MeasuredArm]


@dataclass(frozen=True)
class ImageRecord:
    """One finished picture under one arm."""

    classes: list[ClassTally]
    segments: int
    threshold: float
    seconds: float
    attention: float

    @property
    def total_seconds(self) -> float:
        return self.attention + self.seconds

    @classmethod
    def of(cls, record: Json, arm: Arm) -> ImageRecord:
        """From what `recorded` gave."""
        own = record["arms"][arm.key]
        classes = [ClassTally(*numbers) for numbers in own["classes"]]
        return cls(classes, own["segments"], own["threshold"], own["seconds"], record["attention"])


def overlaps_of(outcome: Outcome, truth: Int[np.ndarray, "h w"]) -> list[Overlap]:
    """What each arm's segments share with the mask's classes."""
    classes = int(truth[truth != IGNORE].max()) + 1
    return [overlap_matrix(one.labels.numpy(), truth, classes) for one in outcome.arms]


def recorded(arms: Sequence[Arm], outcome: Outcome, overlaps: Sequence[Overlap]) -> Json:
    """A measured picture as `Measured` describes it."""
    entries = {
        arm.key: {
            "classes": [astuple(one) for one in matched_per_image(overlap)],
            "segments": len(segmented.labels.unique()),
            "threshold": segmented.threshold,
            "seconds": segmented.seconds,
        }
        for arm, segmented, overlap in zip(arms, outcome.arms, overlaps, strict=True)
    }
    return {"attention": outcome.attention, "arms": entries}


@dataclass(frozen=True, eq=False)
class Described:
    """One picture's segments that have pixels: what they cover, and a unit vector of each."""

    overlap: Overlap
    vectors: Float[np.ndarray, "segments dim"]

    @classmethod
    def of(cls, tensors: Tensors, arm: Arm) -> Described:
        """From what `described` gave."""
        overlap, vectors = tensors[f"{arm.key}/overlap"], tensors[f"{arm.key}/vectors"]
        return cls(overlap.long().numpy(), vectors.float().numpy())


def described(arms: Sequence[Arm], outcome: Outcome, overlaps: Sequence[Overlap]) -> Tensors:
    """The segments of a measured picture under every arm, to be kept for matching over the data set."""
    keys, grid = outcome.seen.keys().cpu(), outcome.seen.grid
    tensors: dict[str, Tensor] = {}
    for arm, segmented, overlap in zip(arms, outcome.arms, overlaps, strict=True):
        pixels = pixel_counts(segmented.labels, len(overlap), grid).float()
        seen = pixels.sum(-1) > 0
        vectors = torch.nn.functional.normalize(pixels[seen] @ keys, dim=-1)
        tensors[f"{arm.key}/overlap"] = torch.from_numpy(overlap)[seen].int()
        tensors[f"{arm.key}/vectors"] = vectors.half()
    return tensors


def segments_fit(tensors: Tensors, arms: Sequence[Arm]) -> bool:
    """Whether there are the segments of every arm."""
    for arm in arms:
        overlap, vectors = (tensors.get(f"{arm.key}/{part}") for part in ("overlap", "vectors"))
        if overlap is None or vectors is None or not overlap.ndim == vectors.ndim == 2:
            return False
        if len(overlap) != len(vectors):
            return False
    return True
