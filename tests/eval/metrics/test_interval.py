"""Intervals: against SciPy's and a plain loop, and how often they hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from eval.metrics import interval
from eval.metrics.chance import Assessed, compared
from eval.metrics.confusion import mean_iou, totals
from eval.metrics.interval import (
    bootstrap_mean,
    bootstrap_means,
    bootstrap_statistic,
    intervals,
    paired_difference,
    paired_statistic,
)
from tokenrank_guidance.interval import Interval, wilson

RNG = np.random.default_rng(0)


def test_the_mean_against_scipy():
    values = RNG.gamma(2, size=80)
    found = bootstrap_mean(values)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.n == 80


def test_means_of_columns_are_those_of_each_alone(monkeypatch):
    values = np.random.default_rng(0).random((30, 3))
    alone = [bootstrap_mean(column, draws=500) for column in values.T]
    for chunk in (interval.CHUNK, 64):
        monkeypatch.setattr(interval, "CHUNK", chunk)
        for one, other in zip(bootstrap_means(values, draws=500), alone, strict=True):
            assert (one.value, one.n) == (pytest.approx(other.value), 30)
            if chunk > 64:
                assert (one.low, one.high) == pytest.approx((other.low, other.high))
    (single,) = bootstrap_means(values[:1, :1])
    assert math.isnan(single.low) and single.n == 1


def test_a_pooled_statistic_against_a_loop():
    counts = RNG.integers(0, 50, size=(12, 3, 4))
    rng, drawn = np.random.default_rng(5), []
    for row in rng.integers(12, size=(400, 12)):
        drawn.append(float(mean_iou(totals(counts[row].sum(0)))))
    found = bootstrap_statistic(counts, lambda sums: mean_iou(totals(sums)), draws=400, seed=5)
    assert found.value == pytest.approx(float(mean_iou(totals(counts.sum(0)))))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_chunks_change_nothing(monkeypatch):
    values = RNG.random(30)
    whole = bootstrap_mean(values, draws=1000)
    monkeypatch.setattr(interval, "CHUNK", 100)
    parts = bootstrap_mean(values, draws=1000)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_seeds():
    values = RNG.random(30)
    assert bootstrap_mean(values, 500, seed=1) == bootstrap_mean(values, 500, seed=1)
    assert bootstrap_mean(values, 500, seed=1) != bootstrap_mean(values, 500, seed=2)


def test_coverage_is_near_95_percent():
    rng = np.random.default_rng(2)
    held = [
        found.low <= 0.3 <= found.high
        for found in (bootstrap_mean(rng.random(60) < 0.3, draws=400, seed=i) for i in range(300))
    ]
    assert 0.90 <= np.mean(held) <= 0.985


def test_pairs_are_narrower_than_the_difference_of_two():
    base = RNG.random(100)
    found = paired_difference(base + 0.01 + 0.001 * RNG.standard_normal(100), base)
    assert found.value == pytest.approx(0.01, abs=1e-3)
    assert found.low > 0
    reverse = paired_difference(base, base[::-1])
    assert reverse.low < 0 < reverse.high
    assert paired_difference(base, base) == Interval(0.0, 0.0, 0.0, 100)


def test_the_sign_is_first_minus_second():
    assert paired_difference(np.ones(5), np.zeros(5)).value == 1
    ones, zeros = np.tile([1, 1], (5, 1)), np.tile([0, 1], (5, 1))
    assert paired_statistic(ones, zeros, lambda sums: sums[:, 0] / sums[:, 1]).value == 1


def test_a_paired_statistic_of_means_is_the_paired_difference():
    a, b = RNG.random(40), RNG.random(40)
    expected = paired_difference(a, b, draws=300, seed=3)
    found = paired_statistic(a, b, lambda sums: sums / 40, draws=300, seed=3)
    assert [found.value, found.low, found.high] == pytest.approx(
        [expected.value, expected.low, expected.high]
    )


def test_several_figures_are_each_its_own():
    values, counts = RNG.random((2, 30)), RNG.integers(1, 9, size=(2, 30, 2))

    def share(sums):
        return sums[:, 0] / sums[:, 1]

    a, b = ({"mean": (values[i], None), "share": (counts[i], share)} for i in (0, 1))
    assert intervals(a, 300) == {
        "mean": bootstrap_mean(values[0], 300),
        "share": bootstrap_statistic(counts[0], share, 300),
    }
    alone = {
        "mean": paired_difference(*values, 300),
        "share": paired_statistic(*counts, share, 300),
    }
    for name, found in compared({"a": a, "b": b}, [("a", "b")], 300)["a", "b"].items():
        assert found == replace(alone_as_tested(alone[name]), p=found.p, p_holm=found.p)


def alone_as_tested(interval):
    return Assessed(interval.value, interval.low, interval.high, interval.n)


def test_one_image_has_no_interval():
    found = bootstrap_mean(np.array([0.5]))
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert found.to_json() == {"value": 0.5, "ci": [None, None], "n": 1}
    assert found.ends() == "(no interval)"
    assert Interval(0.5, 0.25, 0.75, 2).to_json() == {"value": 0.5, "ci": [0.25, 0.75], "n": 2}
    assert Interval(0.5, 0.25, 0.75, 2).ends() == "[0.250, 0.750]"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean(np.array([])), "no images"),
        (lambda: bootstrap_mean(np.array([1.0, math.nan])), "1 of 2 images have values that are not finite"),
        (lambda: bootstrap_mean(np.zeros((2, 2))), r"shaped \(2, 2\)"),
        (lambda: paired_difference(np.zeros(2), np.zeros(3)), r"shapes \(2,\) and \(3,\)"),
        (lambda: wilson(4, 3), "4 successes of 3"),
        (lambda: wilson(0, 0), "0 successes of 0"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (67, 500), (335, 500)])
def test_wilson_against_scipy(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    found = wilson(successes, n)
    assert (found.value, found.n) == (successes / n, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
