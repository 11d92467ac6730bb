"""Chains over image and text together, where they share a map."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from diffseg.zero_shot.chain import Starts, Walks, starts_at
from diffseg.zero_shot.collect import Heat, LayerMean, Reading
from diffseg.zero_shot.heads import LayerChains, OneChain
from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import CaptureError, UnsupportedError
from tokenrank_guidance.families.registry import prompt_row
from tokenrank_guidance.families.tokens import ADVICE


class JointWalks:
    """Walks over each layer by itself, whose queries and keys go as soon as it has run."""

    whole = False

    def __init__(self, reading: Reading, layers: Sequence[str], options: Sequence[Options]) -> None:
        self.options = options
        self._reading, self._layers = reading, layers
        self._means = [LayerMean() for _ in options]

    def watching(self) -> AbstractContextManager[object]:
        return capture(denoiser_of(self._reading.pipe), self._layers, reduce=self._add)

    def finish(self) -> list[Heat]:
        heats = [mean.value() for mean in self._means]
        self._means = [LayerMean() for _ in self.options]
        return heats

    def _add(self, record: AttentionRecord) -> None:
        if not self._reading.current.wanted:
            return
        record = conditional(self._reading.pipe, record)
        walks = Walks(LayerChains(record, self.options[0]), walk_starts(record, self._reading), record.image)
        for mean, options in zip(self._means, self.options, strict=True):
            mean.add(on_grid(walks.ends(options), record))


class OneChainWalks:
    """Walks over one chain of all heads of all layers and passes: see `OneChain`."""

    whole = True

    def __init__(self, reading: Reading, layers: Sequence[str], options: Sequence[Options]) -> None:
        self.options = options
        self._reading, self._layers = reading, layers
        self._chain = OneChain(options)

    def watching(self) -> AbstractContextManager[object]:
        return capture(denoiser_of(self._reading.pipe), self._layers, reduce=self._add)

    def finish(self) -> list[Heat]:
        chain, self._chain = self._chain, OneChain(self.options)
        record = chain.record
        if record is None:
            raise CaptureError(f"attention was not seen. {ADVICE}")
        walks = Walks(chain, walk_starts(record, self._reading), record.image)
        return [on_grid(walks.ends(options), record) for options in self.options]

    def _add(self, record: AttentionRecord) -> None:
        if self._reading.current.wanted:
            self._chain.add(conditional(self._reading.pipe, record))


class Rollout:
    """Attention rollout from the words' rows: x ← ½ x + ½ x P of every layer, from the last to the first.

    The row of the product Π_l (½ I + ½ P_l), without the product. Holds a pass's queries and keys. Layers
    without text, SD3.5's second attention, are left out. Source: Abnar and Zuidema 2020, arXiv 2005.00928.
    """

    whole = False

    def __init__(self, reading: Reading, layers: Sequence[str], options: Options) -> None:
        self.options = [options]
        self._reading, self._layers = reading, layers
        self._records: list[AttentionRecord] = []

    def watching(self) -> AbstractContextManager[object]:
        return capture(denoiser_of(self._reading.pipe), self._layers, reduce=self._add)

    def finish(self) -> list[Heat]:
        records, self._records = self._records, []
        if not records:
            raise CaptureError("no layer in which text and image share attention was seen")
        options, last = self.options[0], records[-1]
        x = walk_starts(last, self._reading)
        while records:
            record = records.pop()
            chain = LayerChains(record, options).chain(options)
            x = (x + chain.apply(x.to(chain.dtype)[:, None])[:, 0]) / 2
        return [on_grid(x, last)]

    def _add(self, record: AttentionRecord) -> None:
        if self._reading.current.wanted and record.text is not None:
            self._records.append(conditional(self._reading.pipe, record))


def conditional(pipe: Any, record: AttentionRecord) -> AttentionRecord:
    """The row of the batch that is under the prompt, of those tokens that attend to any.

    Of a video whose frames are rows each, the rows of it.
    """
    row = prompt_row(pipe)
    record = record.images(slice(row, row + 1 or None))
    mask = record.mask
    if mask is None or mask.dtype != torch.bool or mask.ndim < 2 or mask.shape[-2] == 1:
        return record
    attends = mask.any(-1).flatten(0, -2).any(0)  # padding does not in HunyuanVideo 1.5, and comes last
    part = record if attends.all() else record.first(int(attends.sum()))
    return replace(part, mask=None) if part.mask is not None and part.mask.all() else part


def walk_starts(record: AttentionRecord, reading: Reading) -> Starts:
    """The words' tokens in the record's order; UnsupportedError for a layer without text."""
    if record.text is None:
        raise UnsupportedError(f"{record.module} attends over image tokens alone, so no word starts there")
    like = record.q.new_empty((), dtype=torch.promote_types(record.q.dtype, torch.float32))
    return starts_at(reading.tokens, record.text, like, record.tokens)


def on_grid(x: Starts, record: AttentionRecord) -> Heat:
    """The image tokens of walks over all tokens, as their grid; CaptureError without one."""
    if record.grid is None:
        raise CaptureError(f"{record.module} has no grid of image tokens")
    return x[:, record.image].unflatten(-1, record.grid).float()
