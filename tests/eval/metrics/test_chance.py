"""The test by exchange against scipy's, and Holm's correction by hand."""

import numpy as np
import pytest
from scipy import stats

from eval.metrics.chance import Assessed, compared, corrected, exchange_chances

RNG = np.random.default_rng(3)
DRAWS = 20_000


def exchange_chance(a, b, draws=4000):
    (first, statistic), (second, _) = a, b
    (found,) = exchange_chances({"a": first, "b": second}, statistic, [("a", "b")], draws)
    return found


def test_a_means_chance_is_scipys_over_all_exchanges():
    a, b = RNG.random(9), RNG.random(9) - 0.2
    exact = stats.permutation_test((a, b), lambda x, y: x.mean() - y.mean(), permutation_type="samples")
    assert exchange_chance((a, None), (b, None), DRAWS) == pytest.approx(exact.pvalue, abs=0.015)


def test_a_pooled_statistics_chance_is_scipys_over_all_exchanges():
    hits, sizes = RNG.integers(1, 9, size=(2, 9)), RNG.integers(9, 20, size=(2, 9))
    codes = hits * 100 + sizes  # scipy exchanges numbers, not rows

    def share(sums):
        return sums[:, 0] / sums[:, 1]

    def less(x, y):
        return np.subtract(*((side // 100).sum() / (side % 100).sum() for side in (x, y)))

    exact = stats.permutation_test(tuple(codes), less, permutation_type="samples", vectorized=False)
    a, b = ((np.stack([hits[i], sizes[i]], 1), share) for i in (0, 1))
    assert exchange_chance(a, b, DRAWS) == pytest.approx(exact.pvalue, abs=0.015)


def test_under_no_difference_chances_are_even():
    found = [exchange_chance(*((RNG.standard_normal(20), None) for _ in range(2)), 200) for _ in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_arms_that_are_alike_differ_by_no_chance_and_one_image_tells_nothing():
    a = RNG.random(20)
    assert exchange_chance((a, None), (a, None)) == 1
    assert exchange_chance((a[:1], None), (a[1:2], None)) is None
    single = {name: {"acc": (a[i : i + 1], None)} for i, name in enumerate("ab")}
    assert "p" not in compared(single, [("a", "b")])["a", "b"]["acc"].to_json()


def test_holms_correction_by_hand():
    """0.01, 0.04, 0.03 of three: 3 × 0.01, then 2 × 0.03, then 0.04, which may not fall below that."""

    def figure(p):
        return {"fid": Assessed(1.0, 0.0, 2.0, 9, p=p), "kid": Assessed(0.0, 0, 0, 9)}

    pairs = {("a", "b"): figure(0.01), ("a", "c"): figure(0.04), ("b", "c"): figure(0.03)}
    found = corrected(pairs)
    assert [one["fid"].p_holm for one in found.values()] == pytest.approx([0.03, 0.06, 0.06])
    assert all(one["kid"].p_holm is None for one in found.values())
    assert corrected({("a", "b"): figure(0.7)})["a", "b"]["fid"].p_holm == 0.7
    assert found["a", "b"]["fid"].to_json() | {"p": 0.01, "p_holm": 0.03} == found["a", "b"]["fid"].to_json()


def test_differences_are_corrected_among_all_pairs_of_a_figure():
    base = RNG.random(40)
    shifts = {"a": 0, "b": 0.1, "c": 0.5}
    arms = {name: {"acc": (base + shift * RNG.random(40), None)} for name, shift in shifts.items()}
    found = compared(arms, [("a", "b"), ("a", "c"), ("b", "c")], 500)
    chances = sorted(one["acc"].p for one in found.values())
    assert max(one["acc"].p_holm for one in found.values()) >= chances[-1] and chances[0] < 0.01
