"""What can be chosen in a segmentation, and the published choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from diffseg.choices import MOST_MERGES
from diffseg.maps.anchors import ANCHORS, AnchorChoice
from tokenrank_guidance.checks import is_damping, is_number, is_one_of, is_seed, is_whole, names_layers

Threshold = float | tuple[float, ...] | Literal["auto"]
Layers = str | int | Sequence[str | int]
DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Settings:
    """How attention becomes segments.

    anchors: a name in `diffseg.maps.anchors.ANCHORS`, or a function of an `AnchorRequest` to token indices.
    num_anchors: any number; where the grid has fewer tokens, every token is an anchor.
    kl_threshold: τ > 0 in nats, for every merge or one for each; "auto" takes the smallest τ that leaves as
    many segments as the chain has metastable regions (`diffseg.maps.metastable`).
    merges: how often maps are merged, the first time anchors with all maps.
    timestep: of 1,000 training steps, in [0, 1000); a flow model's σ is its schedule's at that share.
    add_noise: whether the latents get the timestep's noise, drawn from `seed`; DiffSeg adds none.
    refine: None, or "kmeans" over all maps, started at the merged ones (needs scikit-learn).
    layers: "all", "auto", or what `tokenrank_guidance.capture` takes.
    damping: of TokenRank, in (0, 1).
    resolution: √(pixels) that the model works at, None for its own; images are resized to it and labels back.
    max_tokens: refuses layers with more image tokens; their maps are max_tokens² numbers.
    dtype: what maps are kept and merged in, float32 or float64.

    Raises ValueError for values outside these ranges.
    """

    anchors: str | AnchorChoice = "tokenrank-grid"
    num_anchors: int = 256
    kl_threshold: Threshold = "auto"
    merges: int = 3
    timestep: int = 300
    add_noise: bool = False
    refine: Literal["kmeans"] | None = None
    layers: Layers = "all"
    damping: float = 0.99
    resolution: int | None = None
    max_tokens: int = 9216
    dtype: torch.dtype = torch.float32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, expected in (
            (
                "anchors",
                callable(self.anchors) or is_one_of(self.anchors, ANCHORS),
                f"one of {tuple(ANCHORS)}",
            ),
            ("num_anchors", is_whole(self.num_anchors), "a whole number ≥ 1"),
            ("merges", self._merges_fit(), f"a whole number ≥ 1, at most {MOST_MERGES}"),
            ("kl_threshold", self._threshold_fits(), f"a number > 0, {self.merges} of them, or 'auto'"),
            ("timestep", is_whole(self.timestep, 0) and self.timestep < 1000, "a whole number in [0, 1000)"),
            ("add_noise", isinstance(self.add_noise, bool), "True or False"),
            ("refine", self.refine is None or is_one_of(self.refine, ["kmeans"]), "None or 'kmeans'"),
            ("damping", is_damping(self.damping), "a number in (0, 1)"),
            ("layers", names_layers(self.layers), "'all', 'auto', a name or index, or some of them"),
            ("resolution", self.resolution is None or is_whole(self.resolution), "None or pixels ≥ 1"),
            ("max_tokens", is_whole(self.max_tokens), "a whole number ≥ 1"),
            ("dtype", any(self.dtype is one for one in DTYPES), "torch.float32 or torch.float64"),
            ("seed", is_seed(self.seed), "a whole number in [0, 2^63)"),
        ):
            if not holds:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """τ of each merge, or None where it is to be found."""
        if self.kl_threshold == "auto":
            return None
        if isinstance(self.kl_threshold, tuple):
            return self.kl_threshold
        return (float(self.kl_threshold),) * self.merges

    def _merges_fit(self) -> bool:
        return is_whole(self.merges) and self.merges <= MOST_MERGES

    def _threshold_fits(self) -> bool:
        if isinstance(self.kl_threshold, str):
            return self.kl_threshold == "auto"
        if isinstance(self.kl_threshold, tuple):
            return len(self.kl_threshold) == self.merges and all(
                _is_threshold(value) for value in self.kl_threshold
            )
        return _is_threshold(self.kl_threshold)


def _is_threshold(value: object) -> bool:
    return is_number(value) and value > 0


# DiffSeg as published: a blind grid of 16×16 anchors, every self-attention map, τ = 1.1 three times, float64
# from the maps on. The default differs in three things. Each anchor moves within its cell to the token of
# highest TokenRank, so that merging starts where attention gathers. τ is found for each image, because 1.1
# was chosen on Stable Diffusion 1.4: on tiny-flux it leaves one or two segments. And maps are merged in
# float32. Everything else is the same code, the KL's floor and sizes other than 512 px among it.
REFERENCE = Settings(anchors="reference", kl_threshold=1.1, dtype=torch.float64)
PRESETS = {"default": Settings(), "reference": REFERENCE}


def make_settings(preset: str, changes: dict[str, Any]) -> Settings:
    """A preset with some of its fields changed; ValueError for an unknown preset or field."""
    if preset not in PRESETS:
        raise ValueError(f"preset: got {preset!r}, expected one of {', '.join(PRESETS)}")
    unknown = sorted(set(changes) - set(Settings.__dataclass_fields__))
    if unknown:
        known = ", ".join(Settings.__dataclass_fields__)
        raise ValueError(f"unknown setting {', '.join(unknown)}; expected some of {known}")
    if isinstance(changes.get("kl_threshold"), list):
        changes = changes | {"kl_threshold": tuple(changes["kl_threshold"])}
    if isinstance(changes.get("kl_threshold"), tuple):
        changes = {"merges": len(changes["kl_threshold"])} | changes
    return replace(PRESETS[preset], **changes)
