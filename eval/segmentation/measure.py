"""One picture through every arm, its attention taken once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from diffseg.chain import ChainParts
from diffseg.maps.aggregate import aggregate
from diffseg.passes.images import Rgb
from diffseg.settings import Settings
from eval.segmentation.arms import Arm
from eval.segmentation.attention import Attention, Seen

Size = tuple[int, int]
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Segmented:
    """One arm's label map, the τ that it came to, and the seconds that it took without the attention."""

    labels: Int[Tensor, "h w"]
    threshold: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """`attention`: seconds of the pass and of the aggregation, which every arm needs."""

    seen: Seen
    attention: float
    arms: list[Segmented]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Segments a picture by every arm, as `diffseg.segment_chain` does by one.

    The chain, TokenRank and the number of regions are found once. Divergences are computed once for the
    anchors of all arms together; an arm is charged for its share of their rows, and for TokenRank only if its
    anchors depend on it.
    """

    attention: Attention
    arms: Sequence[Arm]
    settings: Settings

    @torch.no_grad()
    def __call__(self, image: Rgb, size: Size) -> Outcome:
        start = time.perf_counter()
        seen = self.attention(image)
        chain = aggregate(seen.maps)[0].to(self.settings.dtype)
        seconds = _now(chain.device) - start
        shared = _Shared(ChainParts(chain, seen.grid, self.settings.damping), self.arms, self.settings)
        return Outcome(seen, seconds, [shared.segment(arm, size) for arm in self.arms])


class _Shared:
    """What the arms have in common for one picture, and the seconds that it took."""

    def __init__(self, parts: ChainParts, arms: Sequence[Arm], settings: Settings) -> None:
        self._parts = parts
        self._settings = {
            arm: replace(settings, anchors=arm.anchors, kl_threshold=arm.threshold) for arm in arms
        }
        self._device = parts.chain.device
        self._rank_seconds = self._timed(lambda: parts.rank)[1]
        start = time.perf_counter()
        self._anchors = {arm.anchors: parts.anchors(own) for arm, own in self._settings.items()}
        self._union = torch.cat([*self._anchors.values()]).unique()
        self._divergence = parts.divergence(self._union)
        self._row_seconds = (_now(self._device) - start) / len(self._union)

    @cached_property
    def _region_seconds(self) -> float:
        return self._timed(lambda: self._parts.regions)[1]

    def segment(self, arm: Arm, size: Size) -> Segmented:
        anchors = self._anchors[arm.anchors]
        charged = self._charge(arm, len(anchors))
        divergence = self._divergence[torch.searchsorted(self._union, anchors)]
        own = self._settings[arm]
        found, seconds = self._timed(lambda: self._parts.segment(anchors, divergence, size, own))
        return Segmented(found.labels.cpu(), found.thresholds[0], charged + seconds)

    def _charge(self, arm: Arm, anchors: int) -> float:
        """The seconds of the arm's share of what was computed once."""
        rank = self._rank_seconds if arm.reads_rank else 0.0
        regions = self._region_seconds if arm.threshold == "auto" else 0.0
        return rank + regions + self._row_seconds * anchors

    def _timed(self, work: Callable[[], Found]) -> tuple[Found, float]:
        start = time.perf_counter()
        found = work()
        return found, _now(self._device) - start


def _now(device: torch.device) -> float:
    """The clock once the device has done what it was given, as a GPU works on after a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
