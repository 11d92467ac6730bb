"""What is kept of every finished image, so that a run can be resumed and summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eval.journal import Journal
from eval.masking.arms import Ranker
from eval.masking.measure import Masking, Outcome
from eval.masking.result import MaskingResult
from eval.schema import Count, Schema, Share, Unreadable, check_index, validated
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole

Json = dict[str, Any]
UNREADABLE = "unreadable"
DIGITS = 6


class Measured(Schema):
    """The place of the true class and its probability, by arm and point of the curve; null: not a number."""

    rank: list[list[Count]]
    probability: list[list[Share | None]]


@dataclass(frozen=True)
class Store:
    """One journal of images per process in `folder`, and each image's features, if any are kept.

    `shape` = (arms, points of the curve) of each image's numbers.
    """

    folder: Path
    config: Mapping[str, object]
    shape: tuple[int, int]

    def journal(self, process: int = 0) -> Journal:
        return Journal(self.folder / f"images-{process}.jsonl", self.config, self._check)

    def finished(self, features: bool = False) -> dict[int, Json]:
        """What all processes of this and of earlier runs have finished; ValueError for other settings.

        With `features` an image whose features are no longer there, or not whole, is not.
        """
        done: dict[int, Json] = {}
        for path in sorted(self.folder.glob("images-*.jsonl")):
            with Journal(path, self.config, self._check) as journal:
                done |= {int(key): record for key, record in journal.done.items()}
        return {i: record for i, record in done.items() if not features or self._whole(i, record)}

    def add(self, journal: Journal, indices: Sequence[int], outcome: Outcome) -> None:
        """Keep a measured batch; features go first, so that an image in the journal has them."""
        for i, index in enumerate(indices):
            if outcome.features is not None:
                tensors = {"features": outcome.features[i].contiguous()}
                write_whole(self._features(index), lambda path, tensors=tensors: save_tensors(tensors, path))
            probability = [[round(value, DIGITS) for value in arm] for arm in outcome.probability[i].tolist()]
            if str(index) in journal.done:  # it was measured again for its features alone
                continue
            journal.add(str(index), {"rank": outcome.rank[i].tolist(), "probability": probability})

    def result(self, ranker: Ranker, masking: Masking, patches: int, indices: Sequence[int]) -> MaskingResult:
        """The images of `indices`, all measured, as arrays."""
        finished = self.finished()
        records = [finished[index] for index in indices]
        features = None
        if masking.frechet:
            features = torch.stack([self._loaded(i) for i in indices]).numpy()
        return MaskingResult(
            ranker,
            masking,
            patches,
            np.array([record["rank"] for record in records]),
            np.array([record["probability"] for record in records], dtype=float),  # None is NaN
            features,
        )

    def _check(self, key: str, record: Json) -> None:
        check_index(key)
        found = validated(Unreadable | Measured, record)
        if isinstance(found, Measured):
            for name, rows in (("rank", found.rank), ("probability", found.probability)):
                if [len(row) for row in rows] != [self.shape[1]] * self.shape[0]:
                    raise ValueError(f"{name} is not {self.shape[0]} rows of {self.shape[1]}")

    def _whole(self, index: int, record: Json) -> bool:
        if UNREADABLE in record:
            return True
        try:
            return bool(self._loaded(index).isfinite().all())
        except ValueError:
            return False

    def _loaded(self, index: int) -> Float[Tensor, "arms curve dim"]:
        path = self._features(index)
        features = load_tensors(path)[0].get("features")
        if features is None or features.ndim != 3 or features.shape[:2] != self.shape:
            raise ValueError(f"{path} is damaged; run the same command to measure that image again")
        return features

    def _features(self, index: int) -> Path:
        return self.folder / "features" / f"{index:06d}.safetensors"
