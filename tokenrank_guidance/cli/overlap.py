"""How far TokenRank and SAG agree on which tokens to blur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sag.across_layers import AcrossLayers
from sag.degraded import GuidedStep
from sag.mask import salient, score_image
from sag.scorers import SCORERS, Scorer, reads_gradients
from sag.settings import GuidanceSettings
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.cli.sample_options import other_of
from tokenrank_guidance.interval import LEVEL, Interval

RESAMPLES = 10_000


@dataclass(frozen=True)
class StepMasks:
    """Which tokens one guided denoiser call blurred (`own`), and which the other scorer would have.

    Of soft masks: which were blurred by more than half.
    """

    number: int
    timestep: float
    own: Bool[Tensor, "images h w"]
    other: Bool[Tensor, "images h w"]


@dataclass
class PairedScorer(AcrossLayers):
    """Scores with `own`, and keeps what `other` says of the same attention."""

    own: Scorer
    other: Scorer
    seen: list[Float[Tensor, "batch h w"]] = field(default_factory=list)

    @property
    def gradients(self) -> bool:
        return reads_gradients(self.own) or reads_gradients(self.other)

    def __call__(self, records: Sequence[AttentionRecord]) -> Float[Tensor, "batch h w"]:
        self.seen.append(score_image(records, self.other).cpu())
        return score_image(records, self.own)

    def masks(self, steps: Sequence[GuidedStep], threshold: float) -> list[StepMasks]:
        """Both masks of each of `steps`, all those that were scored since this scorer was made."""
        return [
            StepMasks(
                step.number,
                step.timestep,
                salient(step.score, threshold).cpu(),
                salient(score, threshold),
            )
            for step, score in zip(steps, self.seen, strict=True)
        ]


def paired_scorer(arm: str, settings: GuidanceSettings) -> PairedScorer:
    """The scorer of a guided arm, with the other one of the comparison watching."""
    own, other = (SCORERS[name].make(settings) for name in (arm, other_of(arm)))
    return PairedScorer(own, other)


def join(batches: Sequence[Sequence[StepMasks]]) -> list[StepMasks]:
    """The steps of several batches of the same sampling as those of one."""
    return [
        replace(parts[0], own=torch.cat([p.own for p in parts]), other=torch.cat([p.other for p in parts]))
        for parts in zip(*batches, strict=True)
    ]


def intersection_over_union(
    first: Bool[Tensor, "images h w"], second: Bool[Tensor, "images h w"]
) -> Float[Tensor, " images"]:
    """|A ∩ B| / |A ∪ B| of each image's masks; 1 where both are empty."""
    both = (first & second).sum((1, 2)).cpu().double()
    either = (first | second).sum((1, 2)).cpu().double()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def bootstrap_mean(values: Float[Tensor, " n"], seed: int = 0) -> Interval:
    """The mean of independent values with its percentile-bootstrap interval."""
    mean = values.mean().item()
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, len(values))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    tail = (1 - LEVEL) / 2
    low, high = values[draws].mean(1).quantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return Interval(mean, low, high, len(values))
