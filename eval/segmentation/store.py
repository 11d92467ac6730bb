"""What is kept of every finished picture, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, Strict

from diffseg.vote import pixel_counts
from eval.journal import Journal
from eval.metrics.confusion import IGNORE
from eval.metrics.matching import overlap_matrix
from eval.schema import Count, Schema, Share, Unreadable, check_index, validated
from eval.segmentation.arms import Arm
from eval.segmentation.measure import Outcome
from eval.segmentation.tally import ClassTally, matched_per_image
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole

Json = dict[str, Any]
UNREADABLE = "unreadable"
ClassIndex = Annotated[int, Field(ge=0, lt=IGNORE)]


class SegmentedArm(Schema):
    """One arm of a picture; each class is a `ClassTally`."""

    classes: list[Annotated[tuple[ClassIndex, Count, Count, Count, Share], Strict(False)]]
    segments: Count
    threshold: float
    seconds: float


class Segmented(Schema):
    """A finished picture."""

    attention: float
    arms: dict[str, SegmentedArm]


@dataclass(frozen=True)
class ImageRecord:
    """One finished picture under one arm."""

    classes: list[ClassTally]
    segments: int
    threshold: float
    seconds: float
    attention: float


@dataclass(frozen=True, eq=False)
class Described:
    """One picture's segments that have pixels: what they cover, and a unit vector of each."""

    overlap: Int[np.ndarray, "segments classes"]
    vectors: Float[np.ndarray, "segments dim"]


@dataclass(frozen=True)
class Store:
    """A journal in `folder` and, where matching over the data set is wanted, each picture's segments."""

    folder: Path
    config: Mapping[str, object]
    arms: Sequence[Arm]
    describe: bool

    def journal(self) -> Journal:
        return Journal(self.folder / "images.jsonl", self.config, self._check)

    def finished(self, journal: Journal, index: int) -> bool:
        """Whether a picture is in the journal and, where its segments are kept, they are whole."""
        record = journal.done.get(str(index))
        if record is None or UNREADABLE in record or not self.describe:
            return record is not None
        try:
            for arm in self.arms:
                self.described(index, arm)
        except ValueError:
            return False
        return True

    def add(self, journal: Journal, index: int, outcome: Outcome, truth: Int[np.ndarray, "h w"]) -> None:
        """Keep a measured picture; its segments go first, so that a picture in the journal has them."""
        classes = int(truth[truth != IGNORE].max()) + 1
        overlaps = [overlap_matrix(one.labels.numpy(), truth, classes) for one in outcome.arms]
        if self.describe:
            tensors = self._described(outcome, overlaps)
            write_whole(self._segments(index), lambda path: save_tensors(tensors, path))
        if str(index) in journal.done:  # it was segmented again for its segments alone
            return
        journal.add(str(index), {"attention": outcome.attention, "arms": self._entries(outcome, overlaps)})

    def records(self, journal: Journal, index: int) -> list[ImageRecord]:
        """One finished picture under every arm."""
        record = journal.done[str(index)]
        return [_record(record["arms"][arm.key], record["attention"]) for arm in self.arms]

    def described(self, index: int, arm: Arm) -> Described:
        """The segments of a finished picture under an arm; ValueError where they are not whole."""
        tensors, _ = load_tensors(self._segments(index))
        overlap, vectors = (tensors.get(f"{arm.key}/{part}") for part in ("overlap", "vectors"))
        damage = f"{self._segments(index)} is damaged; run the same command to make it again"
        if overlap is None or vectors is None or not overlap.ndim == vectors.ndim == 2:
            raise ValueError(damage)
        if len(overlap) != len(vectors):
            raise ValueError(damage)
        return Described(overlap.long().numpy(), vectors.float().numpy())

    def _entries(self, outcome: Outcome, overlaps: Sequence[np.ndarray]) -> Json:
        return {
            arm.key: {
                "classes": [astuple(one) for one in matched_per_image(overlap)],
                "segments": len(segmented.labels.unique()),
                "threshold": segmented.threshold,
                "seconds": segmented.seconds,
            }
            for arm, segmented, overlap in zip(self.arms, outcome.arms, overlaps, strict=True)
        }

    def _described(self, outcome: Outcome, overlaps: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        keys, grid = outcome.seen.keys().cpu(), outcome.seen.grid
        tensors: dict[str, torch.Tensor] = {}
        for arm, segmented, overlap in zip(self.arms, outcome.arms, overlaps, strict=True):
            pixels = pixel_counts(segmented.labels, len(overlap), grid).float()
            seen = pixels.sum(-1) > 0
            vectors = torch.nn.functional.normalize(pixels[seen] @ keys, dim=-1)
            tensors[f"{arm.key}/overlap"] = torch.from_numpy(overlap)[seen].int().contiguous()
            tensors[f"{arm.key}/vectors"] = vectors.half().contiguous()
        return tensors

    def _check(self, key: str, record: Json) -> None:
        check_index(key)
        found = validated(Unreadable | Segmented, record)
        lacking = [arm.key for arm in self.arms if isinstance(found, Segmented) and arm.key not in found.arms]
        if lacking:
            raise ValueError(f"arms: it lacks {', '.join(lacking)}")

    def _segments(self, index: int) -> Path:
        return self.folder / "segments" / f"{index:06d}.safetensors"


def _record(entry: Json, attention: float) -> ImageRecord:
    classes = [ClassTally(*numbers) for numbers in entry["classes"]]
    return ImageRecord(classes, entry["segments"], entry["threshold"], entry["seconds"], attention)
