"""What can be chosen in a guidance, checked; nothing here needs torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import TYPE_CHECKING, Literal

from sag.across_layers import AcrossLayers
from sag.scorers import HEAD_WEIGHTS, SCORERS, Scorer
from tokenrank_guidance.checks import is_damping, is_number, is_one_of, is_whole, names_layers

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from tokenrank_guidance.capture import AttentionRecord

Layers = str | int | Sequence[str | int]
MASK_KINDS = ("hard", "soft")
LARGEST_KERNEL = 1023  # latent pixels: more than the latents of any picture have, and a blur costs as many


@dataclass(frozen=True, eq=False)
class GuidanceSettings:
    """What a guidance does, and at which steps: the fields of `SelfAttentionGuidance`, which explains them.

    Raises ValueError outside their ranges. `rescale` is the former name of `keep_contrast`.
    """

    scorer: str | Scorer = "tokenrank"
    sag_scale: float = 0.75
    layers: Layers = "auto"
    damping: float = 0.99
    head_weights: Literal["mean", "lambda2"] = "mean"
    threshold: float = 1.0
    blur_kernel: int = 9
    blur_sigma: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    mask: Literal["hard", "soft"] = "hard"
    reuse: int = 1
    keep_contrast: float = 1.0
    _: KW_ONLY
    rescale: InitVar[float | None] = None

    def __post_init__(self, rescale: float | None) -> None:
        if rescale is not None:
            object.__setattr__(self, "keep_contrast", renamed_rescale(rescale, stacklevel=4))
        contrast = is_number(self.keep_contrast) and 0 <= self.keep_contrast <= 1
        positive = self.mask != "soft" or (is_number(self.threshold) and self.threshold > 0)
        starts = is_number(self.start) and 0 <= self.start < 1
        stops = starts and is_number(self.stop) and self.start < self.stop <= 1
        for name, holds, expected in (
            (
                "scorer",
                callable(self.scorer) or is_one_of(self.scorer, SCORERS),
                f"one of {tuple(SCORERS)}, or a function",
            ),
            ("sag_scale", is_number(self.sag_scale) and self.sag_scale >= 0, "a number ≥ 0"),
            ("layers", names_layers(self.layers), "a module's name or index, or some of them"),
            ("damping", is_damping(self.damping), "a number in (0, 1)"),
            ("head_weights", is_one_of(self.head_weights, HEAD_WEIGHTS), f"one of {HEAD_WEIGHTS}"),
            ("threshold", is_number(self.threshold), "a finite number"),
            ("threshold", positive, 'a number > 0 with mask="soft"'),
            ("blur_kernel", _is_odd(self.blur_kernel), f"an odd whole number from 1 to {LARGEST_KERNEL}"),
            ("blur_sigma", is_number(self.blur_sigma) and self.blur_sigma > 0, "a number > 0"),
            ("start", starts, "a number in [0, 1)"),
            ("stop", stops, f"a number in ({self.start!r}, 1]"),
            ("every", is_whole(self.every), "a whole number ≥ 1"),
            ("mask", is_one_of(self.mask, MASK_KINDS), f"one of {MASK_KINDS}"),
            ("reuse", is_whole(self.reuse), "a whole number ≥ 1"),
            ("keep_contrast", contrast, "a number in [0, 1]"),
        ):
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def ranker(self) -> Scorer:
        """The scorer itself, where it was chosen by name."""
        return SCORERS[self.scorer].make(self) if isinstance(self.scorer, str) else self.scorer

    def score(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        """Score one record's image tokens with the chosen scorer; the mean over tokens is 1."""
        ranker = self.ranker
        return ranker([record]).flatten(1) if isinstance(ranker, AcrossLayers) else ranker(record)

    def guides(self, number: int, total: int) -> bool:
        """Whether sampling step `number` of `total` is guided: one with start ≤ number/total < stop."""
        return number in self._guided(total)

    def renews(self, number: int, total: int) -> bool:
        """Whether guided step `number` of `total` makes the extra pass; others add what the last one gave."""
        return self._guided(total).index(number) % self.reuse == 0

    def renews_no_more(self, number: int, total: int) -> bool:
        """Whether guided step `number` of `total` is the last that may make the extra pass."""
        guided = self._guided(total)
        return guided.index(number) + self.reuse >= len(guided)

    def _guided(self, total: int) -> range:
        first, end = (math.ceil(fraction * total - 1e-9) for fraction in (self.start, self.stop))
        return range(first, end, self.every)  # 1e-9: 0.07 * 100 is a little above 7


def _is_odd(value: object) -> bool:
    return is_whole(value) and value % 2 == 1 and value <= LARGEST_KERNEL


def renamed_rescale(value: float, stacklevel: int) -> float:
    """The value, with a warning: this is what `keep_contrast` was called."""
    warnings.warn("rescale is now called keep_contrast", DeprecationWarning, stacklevel=stacklevel)
    return value
