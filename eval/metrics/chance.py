"""Whether arms differ on the same images: a test by exchange, and Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from eval.metrics.interval import (
    FEWER,
    Sample,
    Statistic,
    bootstrap_means,
    check_paired,
    paired_statistics,
)
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
    if not pairs:
        return {}
    names = arms[pairs[0][0]]
    figures = {name: _tested({arm: own[name] for arm, own in arms.items()}, pairs, draws) for name in names}
    return corrected({pair: {name: figures[name][i] for name in names} for i, pair in enumerate(pairs)})


def _tested(samples: Mapping[str, Sample], pairs: Sequence[tuple[str, str]], draws: int) -> list[Assessed]:
    values = {arm: np.asarray(own, dtype=np.float64) for arm, (own, _) in samples.items()}
    made = samples[pairs[0][0]][1]
    for a, b in pairs:
        check_paired(values[a], values[b])
    if made is None:
        less = bootstrap_means(np.stack([values[a] - values[b] for a, b in pairs], 1), draws)
    else:
        less = paired_statistics(values, made, pairs, draws)
    chances = exchange_chances(values, made, pairs, draws)
    return [
        Assessed(one.value, one.low, one.high, one.n, p=chance)
        for one, chance in zip(less, chances, strict=True)
    ]


def exchange_chances(
    values: Mapping[str, Float[np.ndarray, "n *k"]],
    statistic: Statistic | None,
    pairs: Sequence[tuple[str, str]],
    draws: int = FEWER,
    seed: int = 0,
) -> list[float | None]:
    """p = (1 + #{|Δ*| ≥ |Δ|}) / (1 + draws) of each pair, in Δ* a random half of the images changed sides.

    Δ is the statistic of the sum over all images under one arm less that under the other, without a statistic
    the mean's. None of a single image. All pairs change the same images.
    """
    n = len(next(iter(values.values())))
    if n < 2:
        return [None for _ in pairs]
    made: Statistic = statistic or (lambda sums: sums / n)
    totals = {arm: own.sum(0)[None] for arm, own in values.items()}
    halves = {arm: _halves(own, draws, seed) for arm, own in values.items()}

    def size(a: str, b: str, moved: Float[np.ndarray, "draws *k"] | float) -> Float[np.ndarray, " draws"]:
        return np.abs(made(totals[a] + moved) - made(totals[b] - moved))

    found: list[float | None] = []
    for a, b in pairs:
        (seen,) = size(a, b, 0.0)
        count = (size(a, b, halves[b] - halves[a]) >= seen * (1 - 1e-9)).sum()
        found.append(None if math.isnan(seen) else (1 + int(count)) / (1 + draws))
    return found


def _halves(values: Float[np.ndarray, "n *k"], draws: int, seed: int) -> Float[np.ndarray, "draws *k"]:
    """Sums over random halves of the images, the same ones of whatever values."""
    n, flat = len(values), values.reshape(len(values), -1)
    rng, step = np.random.default_rng(seed + 1), max(1, CHUNK // n)
    parts = [
        rng.integers(2, size=(min(step, draws - start), n)).astype(np.float64) @ flat
        for start in range(0, draws, step)
    ]
    return np.concatenate(parts).reshape(draws, *values.shape[1:])
