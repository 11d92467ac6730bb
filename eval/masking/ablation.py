"""The experiment as a library call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eval.masking.arms import choose_arms
from eval.masking.classifier import Classifier, HeadedClassifier
from eval.masking.floor import image_seed
from eval.masking.measure import Masking, Measurement, Outcome
from eval.masking.result import MaskingResult
from tokenrank_guidance.capture.layers import Layers

DEFAULT_SCORERS = ("random", "centre", "column_sum", "cls_attention", "rollout", "tokenrank")
Batches = Iterable[tuple[Float[Tensor, "images channels height width"], Int[Tensor, " images"]]]


def masking_ablation(
    classifier: nn.Module | Classifier,
    batches: Batches,
    scorers: Sequence[str] = DEFAULT_SCORERS,
    layers: Layers = "auto",
    masking: Masking | None = None,
) -> MaskingResult:
    """Mask the patches that each scorer ranks first, at rising fractions, and see what the classifier loses.

    `classifier` is a vision transformer with a head (transformers or timm), or a `Classifier`; `batches`
    yields normalised images and the positions of their classes, as a DataLoader does. `scorers`: see
    `eval.masking.scorers.SCORERS`; those of one layer are run at each of `layers` (as in `capture`).

    The result's `to_json()` has each arm's curve, area and intervals, its `markdown()` the table. Raises
    ValueError for unknown scorers and layers, for no images, and for models that lack what a scorer needs;
    UnsupportedError for a model whose attention is not known.
    """
    masking = masking or Masking()
    classifier = HeadedClassifier(classifier, ()) if isinstance(classifier, nn.Module) else classifier
    ranker = choose_arms(classifier.model, scorers, layers)
    measure = Measurement(classifier, ranker, masking)
    outcomes: list[Outcome] = []
    count = 0
    for images, labels in batches:
        seeds = [image_seed(masking.seed, count + i) for i in range(len(images))]
        outcomes.append(measure(images, labels, seeds))
        count += len(images)
    if not outcomes:
        raise ValueError("there are no images to mask")
    return _joined(measure, outcomes)


def _joined(measure: Measurement, outcomes: Sequence[Outcome]) -> MaskingResult:
    features = [outcome.features for outcome in outcomes if outcome.features is not None]
    return MaskingResult(
        measure.ranker,
        measure.masking,
        measure.patches,
        torch.cat([outcome.rank for outcome in outcomes]).numpy(),
        torch.cat([outcome.probability for outcome in outcomes]).numpy(),
        torch.cat(features).numpy() if features else None,
    )
