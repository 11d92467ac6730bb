"""What can be chosen in a guidance, checked; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokenrank_guidance.checks import is_damping, is_number, is_one_of, is_whole, names_layers

if TYPE_CHECKING:
    from sag.scorers import Scorer

Layers = str | int | Sequence[str | int]
SCORERS = ("tokenrank", "sag")
HEAD_WEIGHTS = ("mean", "lambda2")
MASK_KINDS = ("hard", "soft")
LARGEST_KERNEL = 1023  # latent pixels: more than the latents of any picture have, and a blur costs as many


@dataclass(frozen=True, eq=False)
class Settings:
    """The fields of `SelfAttentionGuidance`, which says what they mean; ValueError outside their ranges."""

    scorer: Literal["tokenrank", "sag"] | Scorer = "tokenrank"
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
    rescale: float = 1.0

    def __post_init__(self) -> None:
        positive = self.mask != "soft" or (is_number(self.threshold) and self.threshold > 0)
        starts = is_number(self.start) and 0 <= self.start < 1
        stops = starts and is_number(self.stop) and self.start < self.stop <= 1
        for name, holds, expected in (
            (
                "scorer",
                callable(self.scorer) or is_one_of(self.scorer, SCORERS),
                f"one of {SCORERS}, or a function",
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
            ("rescale", is_number(self.rescale) and 0 <= self.rescale <= 1, "a number in [0, 1]"),
        ):
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")


def _is_odd(value: object) -> bool:
    return is_whole(value) and value % 2 == 1 and value <= LARGEST_KERNEL
