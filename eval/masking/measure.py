"""One batch of images through every arm: what the classifier still sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eval.masking.arms import Ranker
from eval.masking.attribution import look
from eval.masking.choices import FRACTIONS, MASKS
from eval.masking.classifier import Classified, Classifier, Images
from eval.masking.operation import Pictures, check_mask, masked_classifier
from eval.masking.ranking import Order, masks
from tokenrank_guidance.capture import AttentionTap
from tokenrank_guidance.checks import is_number, is_one_of, is_whole


@dataclass(frozen=True)
class Masking:
    """How patches are masked.

    `mask`: zero, mean, blur or drop. `order`: which end of the ranking goes first. `forward`: masked pictures
    that go through the model at once, if one batch of images is not more; results differ by rounding alone.
    `seed` is that of random rankings. `frechet`: keep features, and compare those of masked and plain
    pictures.
    """

    mask: str = "zero"
    fractions: tuple[float, ...] = FRACTIONS
    order: Order = "descending"
    forward: int = 64
    seed: int = 0
    frechet: bool = False

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("mask", is_one_of(self.mask, MASKS), f"one of {', '.join(MASKS)}"),
            ("fractions", self._fractions_fit(), "some in (0, 1]"),
            ("order", is_one_of(self.order, ("descending", "ascending")), "descending or ascending"),
            ("forward", is_whole(self.forward), "at least 1"),
            ("seed", is_whole(self.seed, 0), "a whole number ≥ 0"),
            ("frechet", isinstance(self.frechet, bool), "True or False"),
        ):
            if not holds:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")
        if self.mask == "drop" and 1 in self.fractions:
            raise ValueError("drop keeps at least one patch: a fraction of 1 leaves none")

    def _fractions_fit(self) -> bool:
        given = self.fractions
        if not isinstance(given, tuple | list) or not given:
            return False
        return all(is_number(fraction) and 0 < fraction <= 1 for fraction in given)


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: `curve` holds first the plain pictures, then each fraction.

    `rank` is the place of the true class among the logits, 0 for right; `probability` is its softmax.
    `features` are what Fréchet distances compare, None where they were not to be kept.
    """

    rank: Int[Tensor, "images arms curve"]
    probability: Float[Tensor, "images arms curve"]
    features: Float[Tensor, "images arms curve dim"] | None = None


@dataclass
class Measurement:
    """Classifies batches of images with each arm's patches masked.

    One pass with capture per batch gives every arm's ranking; arms that mask the same patches share a pass.
    """

    classifier: Classifier
    ranker: Ranker
    masking: Masking = field(default_factory=Masking)

    def __post_init__(self) -> None:
        check_mask(self.masking.mask, self.classifier)
        self._tap = AttentionTap(self.classifier.model, self.ranker.needed)
        self.patches = 0  # of one image, known after the first

    @torch.inference_mode()
    def __call__(self, images: Images, labels: Int[Tensor, " images"], seeds: Sequence[int]) -> Outcome:
        """Measure one batch; `labels` are positions among the classes, `seeds` one per image."""
        plain, places, grid = self.rank(images, seeds)
        self.patches = places.shape[-1]
        classify = masked_classifier(self.masking.mask, self.classifier, Pictures(images, grid))
        everywhere = torch.zeros(len(places), dtype=torch.long)
        points = [self._point([plain], labels, everywhere)]
        for fraction in self.masking.fractions:
            distinct, which = masks(places, fraction).unique(dim=0, return_inverse=True)
            size = max(1, self.masking.forward // len(images))
            parts = [classify(chunk) for chunk in distinct.split(size)]
            points.append(self._point(parts, labels, which))
        return Outcome(
            torch.stack([point.rank for point in points], -1).cpu(),
            torch.stack([point.probability for point in points], -1).cpu(),
            _features(points),
        )

    @torch.inference_mode()
    def rank(
        self, images: Images, seeds: Sequence[int]
    ) -> tuple[Classified, Int[Tensor, "arms images patches"], tuple[int, int]]:
        """The plain prediction, every arm's ranking, and the grid: one pass, one more for gradients."""
        self._tap.attach()
        try:
            prediction = self.classifier(images)
        finally:
            self._tap.detach()
        records: list[Any] = self._tap.pop()
        if records[-1].plane is None:
            raise ValueError(f"{records[-1].module} does not know its grid of patches")
        seen = look(self.classifier, images) if self.ranker.backward else None
        places = self.ranker.places(records, seeds, self.masking.order, seen)
        return prediction, places, records[-1].plane

    def _point(self, parts: Sequence[Classified], labels: Tensor, which: Int[Tensor, " arms"]) -> Outcome:
        """One point of the curve, from the distinct masks' predictions and which of them is each arm's."""
        logits = torch.cat([part.logits for part in parts]).unflatten(0, (-1, len(labels)))
        true = labels.expand(len(logits), -1).unsqueeze(-1)
        own = logits.gather(-1, true)
        rank = (logits > own).sum(-1)
        probability = logits.softmax(-1).gather(-1, true).squeeze(-1)
        if not self.masking.frechet:
            return Outcome(rank[which].T, probability[which].T)
        features = torch.cat([part.features for part in parts]).unflatten(0, (-1, len(labels)))
        return Outcome(rank[which].T, probability[which].T, features[which].transpose(0, 1))


def _features(points: Sequence[Outcome]) -> Float[Tensor, "images arms curve dim"] | None:
    kept = [point.features for point in points if point.features is not None]
    return torch.stack(kept, 2).cpu() if kept else None
