"""Where and how long `tests.benchmarks.gpu` measures, and the map and mask that its sections share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from sag.mask import salient, score_image
from sag.scorers import TokenRankScorer
from tests.benchmarks.guided_step import stable_diffusion_unet
from tests.tiny_networks import unet
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import (
    deferred_checks,
)

RUNS = 20


@dataclass(frozen=True)
class Row:
    what: str
    value: float | int | str
    unit: str = "ms"


@dataclass
class Bench:
    """Where to measure, on what inputs, until when; and what was measured."""

    device: torch.device
    small: bool
    seconds: float
    rows: list[Row] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.began)

    def add(self, what: str, value: float | int | str, unit: str = "ms") -> float | int | str:
        self.rows.append(Row(what, value, unit))
        return value

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """What fails in here is noted, and the rest of the section goes on."""
        try:
            yield
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0][:160]
            self.add(what, f"{type(error).__name__}: {reason}", "")

    def time(self, what: str, work: Callable[[], object], most: float = 1.5) -> float:
        """Median milliseconds of `work`, for `most` seconds or `RUNS` runs; -1 and why where it fails."""
        with self.part(what):
            value = self.milliseconds(work, most)
            self.add(what, value)
            return value
        return -1.0

    def milliseconds(self, work: Callable[[], object], most: float = 1.5) -> float:
        work()
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < (2 if self.small else RUNS) and time.perf_counter() - began < most:
            times.append(self._once(work))
        return median(times)

    def _once(self, work: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            began = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - began)
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    def network(self, dtype: torch.dtype) -> UNet2DConditionModel:
        if not self.small:
            return stable_diffusion_unet(str(self.device), dtype)
        size = unet()
        size.register_to_config(sample_size=16)
        return size.eval().to(self.device, dtype)

    @property
    def precisions(self) -> list[torch.dtype]:
        return [torch.float32] if self.device.type == "cpu" else [torch.float16, torch.bfloat16]

    def sizes(self, *tokens: int) -> Sequence[int]:
        return (16, 64) if self.small else tokens


def random_record(bench: Bench, tokens: int, dtype: torch.dtype, heads: int = 8) -> AttentionRecord:
    """As sharp as trained attention often is."""
    g = torch.Generator().manual_seed(0)
    q, k = (1.5 * torch.randn(1, heads, tokens, 64, generator=g) for _ in range(2))
    side = round(tokens**0.5)
    q, k = q.to(bench.device, dtype), k.to(bench.device, dtype)
    return AttentionRecord(q, k, 0.125, module="random", grid=(side, tokens // side))


def mask_of(record: AttentionRecord, head_weights: Any = "mean") -> Tensor:
    """From the map to the mask, as guidance does it: the checks are read later."""
    with deferred_checks():
        score = score_image([record], TokenRankScorer(head_weights=head_weights))
    return salient(score, 1.0)
