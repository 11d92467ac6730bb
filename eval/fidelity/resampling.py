"""Intervals and tests that are valid for metrics of whole sets, where a bootstrap's duplicates are not.

Interval: the metric on random halves of the images, drawn without replacement. For a mean the variance over
subsets of m of n images is σ²/m·(1 − m/n), that of the whole set's value σ²/n: the ratio m/(n − m) rescales
one to the other, and is 1 for halves (Politis, Romano and Wolf 1999). FID, IS, KID, precision and recall
behave so to first order; their bias, which depends on n, drops out, as the spread is taken about the halves'
own mean. The reference is held fixed.

Difference of two arms: the same halves of both, paired by seed, for the interval; for the test, the two
images of a random half of the seeds change sides, many times over: p = (1 + #{|Δ*| ≥ |Δ|}) / (1 + draws).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from eval.fidelity.extractor import Features
from eval.fidelity.metrics import Accuracy, Kernel, Metric, Series, Subset
from eval.metrics.chance import Assessed
from eval.metrics.interval import paired_difference
from tokenrank_guidance.interval import Z

DRAWS, FEWEST = 200, 8
HALVES, WILSON, PAIRED = "random halves", "Wilson", "paired bootstrap"
SHARES = ("precision", "recall")


@dataclass(frozen=True)
class Estimate(Assessed):
    """A figure with its interval, and how that was found."""

    method: str = field(kw_only=True)

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"method": self.method}


def halves(n: int, draws: int, seed: int) -> list[Subset]:
    """`draws` random halves of n images, in complementary pairs."""
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(n) for _ in range((draws + 1) // 2)]
    return [part for order in orders for part in (order[: n // 2], order[n // 2 : 2 * (n // 2)])][:draws]


def swaps(n: int, draws: int, seed: int) -> list[Subset]:
    """Indices into 2n images, one arm's and then the other's: of each pair one, at random."""
    generator = np.random.default_rng(seed + 1)
    return [np.arange(n) + n * generator.integers(2, size=n) for _ in range(draws)]


def estimate(metric: Metric, generated: Features, draws: int = DRAWS, seed: int = 0) -> dict[str, Estimate]:
    """torch-fidelity's figures for one arm with their intervals."""
    spread = _spread(metric.of_subsets(generated, _halves(metric, generated, draws, seed)))
    if isinstance(metric, Kernel):
        spread["kid"] = float(np.hypot(spread["kid"], metric.extra_variance(generated) ** 0.5))
    n = len(generated["features"])
    return {name: _interval(name, value, spread[name], n) for name, value in metric.value(generated).items()}


def compare(
    metric: Metric, a: Features, b: Features, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """The first arm's figures less the second's, image i of both having one prompt and seed.

    Of too few images to be halved they have no interval, and no test either.
    """
    mine, other = metric.value(a), metric.value(b)
    chosen = _halves(metric, a, draws, seed)
    first, second = metric.of_subsets(a, chosen), metric.of_subsets(b, chosen)
    spread = _spread({name: first[name] - second[name] for name in metric.names})
    chance = _chance(metric, a, b, draws, seed) if chosen else dict.fromkeys(metric.names)
    found = {}
    for name in metric.names:
        value, reach = mine[name] - other[name], Z * spread[name]
        found[name] = Estimate(
            value, value - reach, value + reach, len(a["features"]), method=HALVES, p=chance[name]
        )
    return found


def _halves(metric: Metric, features: Features, draws: int, seed: int) -> list[Subset]:
    """None where halves have fewer images than the metric takes."""
    n = len(features["features"])
    return halves(n, draws, seed) if n >= max(FEWEST, 2 * metric.fewest) else []


def _spread(series: Series) -> dict[str, float]:
    """Standard error of the whole set's figure: the spread over halves, whose ratio m/(n − m) is 1."""
    return {
        name: float(np.std(values, ddof=1)) if len(values) > 1 else np.nan for name, values in series.items()
    }


def _interval(name: str, value: float, spread: float, n: int) -> Estimate:
    low, high = value - Z * spread, value + Z * spread
    if name in SHARES:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(value, low, high, n, method=HALVES)


def _chance(metric: Metric, a: Features, b: Features, draws: int, seed: int) -> dict[str, float]:
    n = len(a["features"])
    pool = {name: torch.cat([a[name], b[name]]) for name in a}
    exchanged = swaps(n, draws, seed)
    sides = [np.arange(n), np.arange(n, 2 * n)]
    others = [(subset + n) % (2 * n) for subset in exchanged]
    series = metric.of_subsets(pool, [*sides, *exchanged, *others])
    return {name: _p_value(values, draws) for name, values in series.items()}


def _p_value(values: Float[np.ndarray, " sides"], draws: int) -> float:
    observed, difference = values[0] - values[1], values[2 : 2 + draws] - values[2 + draws :]
    beyond = np.abs(difference) >= abs(observed) * (1 - 1e-9)
    return float((1 + beyond.sum()) / (1 + draws))


def estimate_accuracy(metric: Accuracy, generated: Features) -> Estimate:
    """One arm's share of right images."""
    share = metric.interval(generated)
    return Estimate(share.value, share.low, share.high, share.n, method=WILSON)


def compare_accuracy(
    metric: Accuracy, a: Features, b: Features, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """The first arm's share less the second's: bootstrap of pairs, and the test that swaps them.

    It takes 10 × `draws` swaps, as one costs nothing.
    """
    pairs = np.stack([metric.hits(a), metric.hits(b)])
    first, second = pairs[:, ~np.isnan(pairs).any(0)]
    interval = paired_difference(first, second, seed=seed)
    sign = 1 - 2 * np.random.default_rng(seed + 1).integers(2, size=(10 * draws, len(first)))
    moved = np.abs(sign @ (first - second)) >= abs((first - second).sum()) * (1 - 1e-9)
    p = float((1 + moved.sum()) / (1 + len(moved)))
    return Estimate(interval.value, interval.low, interval.high, interval.n, method=PAIRED, p=p)


def jackknife_groups(n: int, groups: int, seed: int) -> Sequence[Subset]:
    """The images without each of `groups` random groups in turn, for a delete-a-group jackknife."""
    order = np.random.default_rng(seed).permutation(n)
    return [
        np.concatenate([*parts[:i], *parts[i + 1 :]])
        for parts in [np.array_split(order, groups)]
        for i in range(groups)
    ]
