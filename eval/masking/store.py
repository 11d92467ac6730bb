"""What is kept of every finished image, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.journal import Journal
from eval.masking.arms import Ranker
from eval.masking.measure import Masking, Outcome
from eval.masking.result import MaskingResult
from eval.report import write_whole
from tokenrank_guidance.files.tensors import load_tensors, save_tensors

Json = dict[str, Any]
UNREADABLE = "unreadable"
DIGITS = 6


@dataclass(frozen=True)
class Store:
    """One journal of images per process in `folder`, and each image's features, if any are kept."""

    folder: Path
    config: Mapping[str, object]

    def journal(self, process: int = 0) -> Journal:
        return Journal(self.folder / f"images-{process}.jsonl", self.config)

    def finished(self) -> dict[int, Json]:
        """What all processes of this and of earlier runs have finished; ValueError for other settings."""
        done: dict[int, Json] = {}
        for path in sorted(self.folder.glob("images-*.jsonl")):
            with Journal(path, self.config) as journal:
                done |= {int(key): record for key, record in journal.done.items()}
        return done

    def add(self, journal: Journal, indices: Sequence[int], outcome: Outcome) -> None:
        """Keep a measured batch; features go first, so that an image in the journal has them."""
        for i, index in enumerate(indices):
            if outcome.features is not None:
                tensors = {"features": outcome.features[i].contiguous()}
                write_whole(self._features(index), lambda path, tensors=tensors: save_tensors(tensors, path))
            probability = [[round(value, DIGITS) for value in arm] for arm in outcome.probability[i].tolist()]
            journal.add(str(index), {"rank": outcome.rank[i].tolist(), "probability": probability})

    def result(self, ranker: Ranker, masking: Masking, patches: int, indices: Sequence[int]) -> MaskingResult:
        """The images of `indices`, all measured, as arrays."""
        finished = self.finished()
        records = [finished[index] for index in indices]
        features = None
        if masking.frechet:
            features = torch.stack([load_tensors(self._features(i))[0]["features"] for i in indices]).numpy()
        return MaskingResult(
            ranker,
            masking,
            patches,
            np.array([record["rank"] for record in records]),
            np.array([record["probability"] for record in records]),
            features,
        )

    def _features(self, index: int) -> Path:
        return self.folder / "features" / f"{index:06d}.safetensors"
