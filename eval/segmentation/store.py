"""What is kept of every finished picture, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from diffseg.label import pixel_counts
from eval.journal import Journal
from eval.metrics.confusion import IGNORE
from eval.metrics.matching import overlap_matrix
from eval.report import write_whole
from eval.segmentation.arms import Arm
from eval.segmentation.measure import Outcome
from eval.segmentation.tally import ClassTally, matched_per_image
from tokenrank_guidance.files.tensors import load_tensors, save_tensors

Json = dict[str, Any]
UNREADABLE = "unreadable"


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
        return Journal(self.folder / "images.jsonl", self.config)

    def add(self, journal: Journal, index: int, outcome: Outcome, truth: Int[np.ndarray, "h w"]) -> None:
        """Keep a measured picture; its segments go first, so that a picture in the journal has them."""
        classes = int(truth[truth != IGNORE].max()) + 1
        overlaps = [overlap_matrix(one.labels.numpy(), truth, classes) for one in outcome.arms]
        if self.describe:
            tensors = self._described(outcome, overlaps)
            write_whole(self._segments(index), lambda path: save_tensors(tensors, path))
        journal.add(str(index), {"attention": outcome.attention, "arms": self._entries(outcome, overlaps)})

    def records(self, journal: Journal, index: int) -> list[ImageRecord]:
        """One finished picture under every arm."""
        record = journal.done[str(index)]
        return [_record(record["arms"][arm.key], record["attention"]) for arm in self.arms]

    def described(self, index: int, arm: Arm) -> Described:
        """The segments of a finished picture under an arm."""
        tensors = load_tensors(self._segments(index))[0]
        vectors = tensors[f"{arm.key}/vectors"].float().numpy()
        return Described(tensors[f"{arm.key}/overlap"].long().numpy(), vectors)

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

    def _segments(self, index: int) -> Path:
        return self.folder / "segments" / f"{index:06d}.safetensors"


def _record(entry: Json, attention: float) -> ImageRecord:
    classes = [ClassTally(*numbers) for numbers in entry["classes"]]
    return ImageRecord(classes, entry["segments"], entry["threshold"], entry["seconds"], attention)
