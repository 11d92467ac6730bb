"""Whether 95 % intervals hold what they are of in about 95 of 100 experiments, simulated 200 times each.

What they are of is known: of means and shares exactly, of metrics of sets by their mean over many more sets
of as many images. Of 200 repetitions a true 95 % holds .92 to .98 in 97 of 100 such tests, so that one of 16
cases is easily out by chance: what is out is repeated with 1,000 others, with which a true 95 % is out once
in 50,000 tests, and a true 90 % in 98 of 100.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from eval.fidelity.extrapolate import extrapolate
from eval.fidelity.metrics import Frechet, Kernel, PrecisionRecall, Score
from eval.fidelity.resampling import compare, estimate
from eval.fidelity.statistics import Gaussian
from eval.metrics.interval import bootstrap_mean, bootstrap_statistic, paired_difference, paired_statistic
from tokenrank_guidance.interval import Interval, wilson

REPETITIONS, AGAIN, MORE, N, DIM, CLASSES = range(200), range(1000, 2000), 600, 300, 8, 6
LOW, HIGH = 0.92, 0.98

Draw = Callable[[np.random.Generator], object]


@dataclass(frozen=True)
class Case:
    """`draw` makes an experiment's data, `interval` its interval, `value` what this is of, in expectation."""

    draw: Draw
    interval: Callable[[object], Interval]
    value: Callable[[object], float]
    truth: float | None = None


def images(rng, shift=0.0):
    """Features of one set, and its logits, which follow from them."""
    features = rng.normal(shift, 1.0 + shift / 2, (N, DIM)).astype(np.float32)
    logits = 1.5 * features[:, :CLASSES] + 0.5 * rng.normal(size=(N, CLASSES))
    return {"features": torch.from_numpy(features), "logits": torch.from_numpy(logits.astype(np.float32))}


REAL = images(np.random.default_rng(10**6))["features"]
GAUSSIAN = Gaussian.of(REAL.double().numpy())
METRICS = {
    "fid": Frechet(GAUSSIAN),
    "isc": Score(),
    "kid": Kernel(REAL),
    "precision": PrecisionRecall(REAL),
    "recall": PrecisionRecall(REAL),
}


def of_set(name):
    metric = METRICS[name]
    return Case(
        lambda rng: images(rng, 0.3),
        lambda seen: estimate(metric, seen, draws=100)[name],
        lambda seen: metric.value(seen)[name],
    )


def pair(rng):
    """Two arms of the same seeds."""
    own = images(rng, 0.2)
    noise = torch.from_numpy(rng.normal(0, 0.6, (N, DIM)).astype(np.float32))
    other = {"features": own["features"] + noise, "logits": 0.8 * own["logits"] + noise[:, :CLASSES]}
    return own, other


def of_pair(name):
    metric = METRICS[name]
    return Case(
        pair,
        lambda seen: compare(metric, *seen, draws=100)[name],
        lambda seen: metric.value(seen[0])[name] - metric.value(seen[1])[name],
    )


def miou(sums):
    """Of two classes, from counts of (truth, prediction)."""
    hit = np.diagonal(sums, axis1=-2, axis2=-1)
    return (hit / (sums.sum(-1) + sums.sum(-2) - hit)).mean(-1)


def confusions(rng, right=0.8, count=100):
    """Each image has its own size and its own rate of right pixels."""
    size = rng.integers(20, 200, count)
    rate = rng.beta(8 * right, 8 * (1 - right), (count, 2))
    truth = np.stack([size, 2 * size], -1)
    hit = rng.binomial(truth, rate)
    missed = truth - hit
    return np.stack([np.stack([hit[:, 0], missed[:, 0]], -1), np.stack([missed[:, 1], hit[:, 1]], -1)], 1)


def areas(rng, shift=0.0, count=100):
    """Areas under accuracy curves of 9 fractions, of images of different difficulty."""
    hard = rng.beta(2, 2, (count, 1))
    return (rng.random((count, 9)) < np.clip(hard - shift, 0, 1)).mean(1)


def both_areas(rng):
    hard = rng.beta(2, 2, (100, 1))
    return [(rng.random((100, 9)) < hard * scale).mean(1) for scale in (1.0, 0.8)]


CASES = {
    "mean": Case(lambda rng: areas(rng), lambda seen: bootstrap_mean(seen, 2000), np.mean, 0.5),
    "paired mean": Case(
        both_areas,
        lambda seen: paired_difference(*seen, 2000),
        lambda seen: float(seen[0].mean() - seen[1].mean()),
        0.1,
    ),
    "share": Case(
        lambda rng: int(rng.binomial(100, 0.9)), lambda seen: wilson(seen, 100), lambda seen: seen / 100, 0.9
    ),
    "pooled mIoU": Case(
        confusions,
        lambda seen: bootstrap_statistic(seen, miou, 2000),
        lambda seen: float(miou(seen.sum(0)[None])[0]),
    ),
    "paired pooled mIoU": Case(
        lambda rng: (confusions(rng), confusions(rng, 0.75)),
        lambda seen: paired_statistic(*seen, miou, 2000),
        lambda seen: float(miou(seen[0].sum(0)[None])[0] - miou(seen[1].sum(0)[None])[0]),
    ),
    **{f"{name} of a set": of_set(name) for name in METRICS},
    **{f"{name} of a pair": of_pair(name) for name in METRICS},
    "FID∞": Case(
        lambda rng: images(rng, 0.3),
        lambda seen: extrapolate(METRICS["fid"], seen),
        lambda seen: extrapolate(METRICS["fid"], seen).value,
    ),
}


def share_held(case, seeds, truth):
    """Of the experiments, how many intervals hold the truth."""
    found = (case.interval(case.draw(np.random.default_rng(seed))) for seed in seeds)
    return np.mean([one.low <= truth <= one.high for one in found])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_intervals_hold_the_truth(name):
    case = CASES[name]
    if case.truth is None:
        more = [case.value(case.draw(np.random.default_rng(10_000 + seed))) for seed in range(MORE)]
        truth = float(np.mean(more))
    else:
        truth = case.truth
    held = share_held(case, REPETITIONS, truth)
    print(f"{name}: {held:.3f}")
    if not LOW <= held <= HIGH:
        held = share_held(case, AGAIN, truth)
        print(f"{name}, again: {held:.3f}")
    assert LOW <= held <= HIGH
