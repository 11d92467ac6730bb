"""One picture's self-attention at every resolution, whatever model it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffseg.maps.aggregate import Grid, ResolutionMap, ResolutionMeans
from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.images import Rgb, resized
from diffseg.passes.sizes import working_size
from diffseg.settings import Settings
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.components import denoiser_of


@dataclass(frozen=True, eq=False)
class Seen:
    """Mean maps of one picture, and what describes each token of the finest grid, made when asked for."""

    maps: list[ResolutionMap]
    keys: Callable[[], Float[Tensor, "n dim"]]

    @property
    def grid(self) -> Grid:
        return max((part.grid for part in self.maps), key=lambda grid: grid[0] * grid[1])


class Attention(Protocol):
    """`model` is the network whose attention is read, by `settings`."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def settings(self) -> Settings: ...
    def __call__(self, image: Rgb) -> Seen: ...


@dataclass(frozen=True, eq=False)
class PipeAttention:
    """One unconditional pass of a diffusers pipeline's denoiser, as `diffseg.DiffSeg` makes it."""

    pipe: Any
    settings: Settings

    @property
    def model(self) -> nn.Module:
        return denoiser_of(self.pipe)

    def __call__(self, image: Rgb) -> Seen:
        taken = _Taken(self.settings)
        with capture(self.model, self.settings.layers, reduce=taken.add):
            denoiser_pass(self.pipe, image, self.settings)
        return taken.seen()


@dataclass(frozen=True, eq=False)
class VitAttention:
    """One pass of a vision transformer over the picture at the settings' resolution, any aspect ratio.

    Position embeddings are interpolated; `call` runs the model on normalised pixels.
    """

    model: nn.Module
    call: Callable[[Float[Tensor, "1 3 h w"]], object]
    patch: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    settings: Settings

    @torch.no_grad()
    def __call__(self, image: Rgb) -> Seen:
        assert self.settings.resolution is not None
        size = working_size((image.shape[1], image.shape[2]), self.settings.resolution, self.patch, False)
        taken = _Taken(self.settings)
        with capture(self.model, self.settings.layers, reduce=taken.add):
            self.run(image, size)
        return taken.seen()

    def run(self, image: Rgb, size: tuple[int, int]) -> None:
        """One pass over the picture at that size."""
        mean, std = (torch.tensor(side).view(3, 1, 1) for side in (self.mean, self.std))
        parameter = next(self.model.parameters())
        pixels = ((resized(image, size) - mean) / std)[None]
        self.call(pixels.to(parameter.device, parameter.dtype))


class _Taken:
    """Means of the maps, and the last layer's keys at the finest grid."""

    def __init__(self, settings: Settings) -> None:
        self._means = ResolutionMeans(settings.dtype, settings.max_tokens)
        self._last: AttentionRecord | None = None

    def add(self, record: AttentionRecord) -> None:
        self._means.add(record)
        if self._last is None or _area(record) >= _area(self._last):
            self._last = record

    def seen(self) -> Seen:
        return Seen(self._means.maps(), lambda last=self._last: _keys(last))


def _area(record: AttentionRecord) -> int:
    height, width = record.plane or (0, 0)
    return height * width


def _keys(record: AttentionRecord | None) -> Float[Tensor, "n dim"]:
    """Unit keys of all heads, one after the other, less their mean: what all tokens share tells nothing."""
    assert record is not None
    k = record.restrict("image").k[0].float()
    flat = k.transpose(0, 1).flatten(1)
    return F.normalize(flat - flat.mean(0), dim=-1)
