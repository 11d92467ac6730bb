"""95 % intervals by resampling images, for means and for pooled statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from tokenrank_guidance.interval import LEVEL, Interval

DRAWS = 10_000
FEWER = 4000  # for many figures of pooled counts, which take longer
CHUNK = 1 << 22  # weights in memory at a time

Counts = Shaped[np.ndarray, "n *k"]
Statistic = Callable[[Float[np.ndarray, "draws *k"]], Float[np.ndarray, " draws"]]
# What is known of each image, (n, *k), and what their sum comes to; None: the mean over images.
Sample = tuple[Counts, Statistic | None]


def bootstrap_mean(values: Float[np.ndarray, " n"], draws: int = DRAWS, seed: int = 0) -> Interval:
    """The mean of independent values, with the percentile bootstrap's interval."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values are shaped {values.shape}, expected (n,)")
    return bootstrap_statistic(values, lambda sums: sums / len(values), draws, seed)


def bootstrap_means(values: Float[np.ndarray, "n k"], draws: int = DRAWS, seed: int = 0) -> list[Interval]:
    """`bootstrap_mean` of each column, all from the same resamples, which are drawn once."""
    columns = _checked(values)
    n, drawn = len(columns), [np.empty((0, columns.shape[1]))]
    if n > 1:
        drawn += [weights @ columns / n for weights in _weights(np.random.default_rng(seed), n, draws)]
    means = zip(columns.sum(0) / n, np.concatenate(drawn).T, strict=True)
    return [_interval(float(mean), own, n) for mean, own in means]


def paired_difference(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """mean(a) − mean(b) over the same images, with the interval of the mean difference."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    check_paired(a, b)
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
    return paired_statistics({"a": a, "b": b}, statistic, [("a", "b")], draws, seed)[0]


def paired_statistics(
    counts: Mapping[str, Counts],
    statistic: Statistic,
    pairs: Sequence[tuple[str, str]],
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Interval]:
    """`paired_statistic` of each pair of arms, whose resamples are summed once an arm."""
    checked = {arm: _checked(values) for arm, values in counts.items()}
    for a, b in pairs:
        check_paired(checked[a], checked[b])
    found = {arm: _resampled(values, statistic, draws, seed) for arm, values in checked.items()}
    less = []
    for a, b in pairs:
        (value, drawn), (other, others) = found[a], found[b]
        less.append(_interval(value - other, drawn - others, len(checked[a])))
    return less


def intervals(samples: Mapping[str, Sample], draws: int = FEWER) -> dict[str, Interval]:
    """Each figure of one arm."""
    return {
        name: bootstrap_mean(values, draws) if made is None else bootstrap_statistic(values, made, draws)
        for name, (values, made) in samples.items()
    }


def check_paired(a: np.ndarray, b: np.ndarray) -> None:
    """Raise ValueError unless both hold as many images, with as much of each."""
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
