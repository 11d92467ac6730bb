"""What is read while a denoiser runs, and the heat maps that come of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffseg.words import Positions
from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import is_unwatched
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.families.tokens import ADVICE

Heat = Float[Tensor, "concepts *grid"]  # (h, w) of an image, (t, h, w) of a video


@dataclass(eq=False)
class Pass:
    """The running pass: whether it is one to read, and which step of sampling, or timestep, it is.

    `counting` is what a read pass adds to `step`. An extra pass inside a chosen one is none to read.
    """

    chosen: bool = False
    step: int = 0
    counting: int = 0

    @property
    def wanted(self) -> bool:
        return self.chosen and not is_unwatched()


@dataclass(frozen=True, eq=False)
class Reading:
    """What collectors work on: the pipeline, the words and where their tokens are, and the running pass.

    `positions` are None where a concept need not be in the text.
    """

    pipe: Any
    concepts: tuple[str, ...]
    positions: Positions | None
    current: Pass = field(default_factory=Pass)

    @property
    def tokens(self) -> Positions:
        assert self.positions is not None
        return self.positions


@runtime_checkable
class Collector(Protocol):
    """Reads passes for some `options`, and gives a heat map for each: of every pass, or `whole`, of all."""

    whole: bool

    @property
    def options(self) -> Sequence[Options]: ...
    def watching(self) -> AbstractContextManager[object]: ...
    def finish(self) -> list[Heat]: ...


class LayerMean:
    """The mean over layers of heat maps, brought to the finest grid among them (bilinear, trilinear)."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, ...], Tensor] = {}
        self._layers = 0

    def add(self, heat: Heat, layers: int = 1) -> None:
        """Take in the map of one layer, or the sum of several layers' maps."""
        grid = tuple(heat.shape[1:])
        self._sums[grid] = self._sums[grid] + heat if grid in self._sums else heat
        self._layers += layers

    def value(self) -> Heat:
        """The mean so far; CaptureError where no layer was seen."""
        if not self._sums:
            raise CaptureError(f"attention was not seen. {ADVICE}")
        finest = max(self._sums, key=math.prod)
        fine = [_resized(heat, finest) for heat in self._sums.values()]
        return torch.stack(fine).sum(0) / self._layers


def _resized(heat: Heat, grid: tuple[int, ...]) -> Float[Tensor, "concepts *finest"]:
    """A token of a coarse grid stands for several of the finest, which share its mass."""
    if tuple(heat.shape[1:]) == grid:
        return heat
    share, mode = heat[0].numel() / math.prod(grid), "bilinear" if len(grid) == 2 else "trilinear"
    return share * F.interpolate(heat[None], grid, mode=mode, align_corners=False)[0]
