"""95 % intervals: by resampling images, for means and for pooled statistics; of a share, by its formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

LEVEL = 0.95
Z = 1.959963984540054  # the standard normal's 97.5 % quantile
DRAWS = 10_000
CHUNK = 1 << 22  # weights in memory at a time

Counts = Shaped[np.ndarray, "n *k"]
Statistic = Callable[[Float[np.ndarray, "draws *k"]], Float[np.ndarray, " draws"]]


@dataclass(frozen=True)
class Interval:
    """A value from `n` images with its 95 % interval, whose ends are NaN where `n` is too small for one."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, float | int | None]:
        """For a report; ends that are NaN become None."""
        low, high = (None if math.isnan(end) else end for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "n": self.n, "level": LEVEL}


def bootstrap_mean(values: Float[np.ndarray, " n"], draws: int = DRAWS, seed: int = 0) -> Interval:
    """The mean of independent values, with the percentile bootstrap's interval."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values are shaped {values.shape}, expected (n,)")
    return bootstrap_statistic(values, lambda sums: sums / len(values), draws, seed)


def paired_difference(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """mean(a) − mean(b) over the same images, with the interval of the mean difference."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    _check_paired(a, b)
    return bootstrap_mean(a - b, draws, seed)


def bootstrap_statistic(counts: Counts, statistic: Statistic, draws: int = DRAWS, seed: int = 0) -> Interval:
    """A statistic of counts summed over images, `statistic(Σ_i counts_i)`, as pooled mIoU is.

    Images are resampled and their counts summed anew. `statistic` takes (draws, *k) sums and returns (draws,)
    values; resamples for which it is NaN are left out.

    Raises ValueError for no images, or counts that are not finite.
    """
    values = _resampled(_checked(counts), statistic, draws, seed)
    return _interval(*values, n=len(counts))


def paired_statistic(
    a: Counts, b: Counts, statistic: Statistic, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """statistic(Σ a_i) − statistic(Σ b_i) over the same images, both from the same resamples."""
    a, b = _checked(a), _checked(b)
    _check_paired(a, b)
    both = np.stack([a, b], axis=1)
    values = _resampled(both, lambda sums: statistic(sums[:, 0]) - statistic(sums[:, 1]), draws, seed)
    return _interval(*values, n=len(a))


def wilson(successes: int, n: int) -> Interval:
    """The share p = successes / n with Wilson's score interval.

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n). Raises ValueError unless 0 ≤ successes ≤ n and n ≥ 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"got {successes} successes of {n}")
    share, z2 = successes / n, Z**2 / n
    centre = share + z2 / 2
    reach = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n))
    low, high = (centre - reach) / (1 + z2), (centre + reach) / (1 + z2)
    return Interval(share, 0.0 if successes == 0 else low, 1.0 if successes == n else high, n)


def _check_paired(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pairs must be of the same images: got shapes {a.shape} and {b.shape}")


def _checked(counts: Counts) -> Float[np.ndarray, "n *k"]:
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim == 0 or len(counts) == 0:
        raise ValueError("there are no images to take a statistic of")
    bad = int((~np.isfinite(counts)).reshape(len(counts), -1).any(1).sum())
    if bad:
        raise ValueError(f"{bad} of {len(counts)} images have values that are not finite")
    return counts


def _resampled(
    counts: Float[np.ndarray, "n *k"], statistic: Statistic, draws: int, seed: int
) -> tuple[float, Float[np.ndarray, " draws"]]:
    """The statistic of all images, and of each resample."""
    rng = np.random.default_rng(seed)
    flat = counts.reshape(len(counts), -1)
    sums = (weights @ flat for weights in _weights(rng, len(counts), draws))
    drawn = [statistic(part.reshape(-1, *counts.shape[1:])) for part in sums] if len(counts) > 1 else []
    return float(statistic(counts.sum(0)[None])[0]), np.concatenate([np.empty(0), *drawn])


def _weights(rng: np.random.Generator, n: int, draws: int) -> Iterator[Float[np.ndarray, "chunk n"]]:
    """How often each of `n` images is drawn in each resample, some resamples at a time."""
    chunk = max(1, CHUNK // n)
    for first in range(0, draws, chunk):
        count = min(chunk, draws - first)
        drawn = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def _interval(value: float, drawn: Float[np.ndarray, " draws"], n: int) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return Interval(value, math.nan, math.nan, n)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
