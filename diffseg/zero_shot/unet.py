"""The analogue for UNets, whose text is in no self-attention map.

Cross-attention says which image tokens attend to a word: that is the start, and self-attention bounces it.
`n` counts the cross-attention as the first step, as in a joint map; "column" is that step alone,
"image-bounce" goes on to who attends within the image, and "daam" is the first step's mean over all layers
(Tang et al. 2023, arXiv 2210.04885, without its sum over all timesteps). The frames of a video attend each to
itself: they are one chain that leads from none to another, and a word's start is shared out among all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffseg.cross import TextAttention
from diffseg.zero_shot.chain import Walks
from diffseg.zero_shot.collect import Heat, LayerMean, Reading
from diffseg.zero_shot.heads import LayerChains
from diffseg.zero_shot.joint import conditional
from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.capture.watch import AttentionCall
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.tokens import Grid
from tokenrank_guidance.markov.precision import capable

UNET_METHODS = ("bounce", "image-bounce", "column", "tokenrank", "daam")


class CrossAttention(TextAttention):
    """The cross-attention of the wanted passes, of the batch's last, conditional row.

    Or of its last `frames` rows, a video's, which are queries of the same text.
    """

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading
        self.frames = 1

    def add_cross(self, call: AttentionCall) -> None:
        if self._reading.current.wanted:
            mask = call.mask[-1:] if call.mask is not None and call.mask.ndim == 4 else call.mask
            q = call.q[-self.frames :].transpose(0, 1).flatten(1, 2)[None]
            super().add_cross(AttentionCall(q, call.k[-1:], mask, call.scale))

    def heat(self, grids: dict[int, Grid]) -> Heat:
        """How much image tokens attend to the tokens of each word, the mean over layers; starts anew."""
        mean = LayerMean()
        for n, total in self._sums.items():
            words = [total[:, own.to(total.device)].sum(-1) for own in self._reading.tokens]
            mean.add(torch.stack(words).unflatten(-1, grids[n]), self._counts[n])
        self._sums, self._counts = {}, {}
        return mean.value()


class UnetWalks:
    """DAAM-like maps and bounces of them; holds a pass's queries and keys of the chosen layers."""

    whole = False

    def __init__(self, reading: Reading, layers: Sequence[str], options: Sequence[Options]) -> None:
        for one in options:
            if one.mix == "chain":
                raise UnsupportedError(
                    "mix='chain': the layers of a UNet have different tokens, expected 'layers'"
                )
            if one.method not in UNET_METHODS:
                raise UnsupportedError(
                    f"{one.method} needs text and image in one map (FLUX, SD3); a UNet has "
                    f"{', '.join(UNET_METHODS)}"
                )
        self.options = options
        self._reading, self._layers, self._cross = reading, set(layers), CrossAttention(reading)
        self._records: list[AttentionRecord] = []
        self._grids: dict[int, Grid] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        model = denoiser_of(self._reading.pipe)
        with self._cross.watching(model), capture(model, "all", reduce=self._add):
            yield

    def finish(self) -> list[Heat]:
        cross = self._cross.heat(self._grids)
        records, self._records = self._records, []
        means = [LayerMean() for _ in self.options]
        for record in records:
            frames = [record.select(row) for row in range(record.batch)]
            pairs = zip(frames, _starts(cross, record).unbind(1), strict=True)
            walks = [Walks(LayerChains(one, self.options[0]), start, one.image) for one, start in pairs]
            for mean, options in zip(means, self.options, strict=True):
                if _bounces(options):
                    mean.add(_shaped([walk.ends(_after_words(options)) for walk in walks], record, options))
        pairs = zip(means, self.options, strict=True)
        return [mean.value() if _bounces(one) else cross for mean, one in pairs]

    def _add(self, record: AttentionRecord) -> None:
        if record.plane is None or not self._reading.current.wanted:
            return
        self._cross.frames = record.frames or 1
        grid = _grid(record)
        self._grids[math.prod(grid)] = grid
        if record.module in self._layers:
            self._records.append(conditional(self._reading.pipe, record))


def _bounces(options: Options) -> bool:
    return options.method == "tokenrank" or (options.method in ("bounce", "image-bounce") and options.n > 1)


def _after_words(options: Options) -> Options:
    """The walk that is left once cross-attention has made its first step."""
    if options.method == "image-bounce":
        return replace(options, method="bounce", direction="incoming", n=options.n - 1)
    return replace(options, n=max(1, options.n - 1))


def _grid(record: AttentionRecord) -> Grid:
    """(h, w), or (frames, h, w) of a video."""
    assert record.plane is not None
    return record.plane if record.frames is None else (record.frames, *record.plane)


def _starts(heat: Heat, record: AttentionRecord) -> Float[Tensor, "concepts frames tokens"]:
    """The words' cross-attention on the record's grid, as distributions over all frames."""
    grid = _grid(record)
    flat = F.interpolate(heat[None].to(capable(heat.device)), grid, mode="area")[0].flatten(1).to(heat.device)
    return (flat / flat.sum(-1, keepdim=True)).unflatten(-1, (record.batch, -1))


def _shaped(ends: list[Float[Tensor, "concepts tokens"]], record: AttentionRecord, options: Options) -> Heat:
    """On the grid; each frame has its even share of what is a distribution of every frame by itself."""
    share = 1 / len(ends) if options.method == "tokenrank" else 1.0
    return share * torch.stack(ends, 1).flatten(1).unflatten(-1, _grid(record)).float()
