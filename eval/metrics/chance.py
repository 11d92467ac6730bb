"""Whether arms differ on the same images: a test by exchange, and Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from eval.metrics.interval import FEWER, Sample, paired_difference, paired_statistic
from tokenrank_guidance.interval import Interval

CHUNK = 1 << 22  # of numbers in memory at a time


@dataclass(frozen=True)
class Assessed(Interval):
    """A figure; of a difference, too, the chance `p` of one at least as large if the arms were alike.

    `p_holm` is what Holm's correction makes of it among all the pairs that were compared.
    """

    p: float | None = field(default=None, kw_only=True)
    p_holm: float | None = field(default=None, kw_only=True)

    def to_json(self) -> dict[str, object]:
        chances = {"p": self.p, "p_holm": self.p_holm}
        return super().to_json() | {name: chance for name, chance in chances.items() if chance is not None}


Figure = TypeVar("Figure", bound=Assessed)
Pair = TypeVar("Pair")


def corrected(pairs: Mapping[Pair, Mapping[str, Figure]]) -> dict[Pair, dict[str, Figure]]:
    """The same with each p beside what Holm's method makes of it among all the pairs' for that figure.

    In rising order the i-th of m is multiplied by m − i, no product below those before it, none above 1: the
    chance that any of these differences is called one where there is none stays below the level (Holm 1979).
    """
    found = {pair: dict(figures) for pair, figures in pairs.items()}
    for name in {name for figures in found.values() for name in figures}:
        tested = [pair for pair in found if name in found[pair] and found[pair][name].p is not None]
        order = sorted(tested, key=lambda pair: found[pair][name].p or 0.0)
        least = 0.0
        for place, pair in enumerate(order):
            own = found[pair][name]
            least = max(least, min(1.0, (len(order) - place) * (own.p or 0.0)))
            found[pair][name] = replace(own, p_holm=least)
    return found


def compared(
    arms: Mapping[str, Mapping[str, Sample]], pairs: Sequence[tuple[str, str]], draws: int = FEWER
) -> dict[tuple[str, str], dict[str, Assessed]]:
    """Each figure of a pair's first arm less the second's on the same images, tested and corrected."""
    return corrected({(a, b): _less(arms[a], arms[b], draws) for a, b in pairs})


def _less(a: Mapping[str, Sample], b: Mapping[str, Sample], draws: int) -> dict[str, Assessed]:
    found = {}
    for name, (values, made) in a.items():
        if made is None:
            interval = paired_difference(values, b[name][0], draws)
        else:
            interval = paired_statistic(values, b[name][0], made, draws)
        chance = exchange_chance((values, made), b[name], draws)
        found[name] = Assessed(interval.value, interval.low, interval.high, interval.n, p=chance)
    return found


def exchange_chance(a: Sample, b: Sample, draws: int = FEWER, seed: int = 0) -> float | None:
    """p = (1 + #{|Δ*| ≥ |Δ|}) / (1 + draws), both arms' values of a random half of the images exchanged.

    Δ is the statistic of all images under one arm less that under the other. None of a single image.
    """
    (first, made), (second, _) = a, b
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n, shape = len(first), first.shape[1:]
    if n < 2:
        return None
    statistic = made or (lambda sums: sums / n)
    total, other = (side.reshape(n, -1).sum(0) for side in (first, second))
    less = (second - first).reshape(n, -1)

    def deltas(moved: Float[np.ndarray, "draws k"]) -> Float[np.ndarray, " draws"]:
        sides = (side.reshape(-1, *shape) for side in (total + moved, other - moved))
        return np.abs(np.subtract(*map(statistic, sides)))

    seen = deltas(np.zeros((1, less.shape[1])))[0]
    if math.isnan(seen):
        return None
    rng, count, step = np.random.default_rng(seed + 1), 0, max(1, CHUNK // n)
    for start in range(0, draws, step):
        swapped = rng.integers(2, size=(min(step, draws - start), n)).astype(np.float64)
        count += int((deltas(swapped @ less) >= seen * (1 - 1e-9)).sum())
    return (1 + count) / (1 + draws)
