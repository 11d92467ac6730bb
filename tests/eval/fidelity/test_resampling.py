"""Intervals that cover what they should, and tests that find what is there and nothing else."""

import numpy as np
import pytest
import torch

from eval.fidelity import views
from eval.fidelity.extrapolate import extrapolate
from eval.fidelity.measure import too_coarse
from eval.fidelity.metrics import Accuracy, Frechet, PrecisionRecall
from eval.fidelity.resampling import (
    compare,
    compare_accuracy,
    estimate,
    halves,
    jackknife_groups,
    swaps,
)
from eval.fidelity.statistics import gaussian_of
from eval.metrics.chance import corrected
from tests.eval.fidelity.conftest import random_features


class Mean:
    """The mean of the first feature, whose interval is known."""

    names, fewest = ("mean",), 1

    def value(self, generated):
        return {"mean": float(generated["features"][:, 0].mean())}

    def of_subsets(self, pool, subsets):
        return {
            "mean": np.array([float(pool["features"][s, 0].mean()) for s in map(torch.from_numpy, subsets)])
        }


def test_halves_are_disjoint_pairs_without_duplicates():
    chosen = halves(11, 6, seed=3)
    assert len(chosen) == 6 and all(len(set(half)) == 5 for half in chosen)
    for first, second in zip(chosen[::2], chosen[1::2], strict=True):
        assert not set(first) & set(second)


def test_a_swap_takes_one_of_each_pair():
    for chosen in swaps(9, 20, seed=0):
        assert sorted(chosen % 9) == list(range(9))


def test_each_group_is_left_out_once():
    left = jackknife_groups(23, 5, seed=0)
    counts = np.bincount(np.concatenate(left), minlength=23)
    assert (counts == 4).all()


def test_the_spread_of_halves_is_the_standard_error():
    features = random_features(400, 0)
    found = estimate(Mean(), features, draws=400)["mean"]
    expected = 1.96 * features["features"][:, 0].std().item() / 20
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.12)


def test_intervals_cover():
    covered = [
        (found := estimate(Mean(), random_features(60, seed), draws=60)["mean"]).low <= 0 <= found.high
        for seed in range(200)
    ]
    assert 0.90 <= np.mean(covered) <= 0.99


def test_the_interval_of_frechet_is_the_spread_over_sets():
    """Over 60 independent sets the distance varies as the interval of each says it would."""
    metric = Frechet(gaussian_of(random_features(4000, 99)["features"]))
    sets = [random_features(300, seed, 0.3) for seed in range(60)]
    spread = np.std([metric.value(one)["fid"] for one in sets], ddof=1)
    claimed = [estimate(metric, one, draws=60)["fid"] for one in sets[:10]]
    assert np.mean([(one.high - one.low) / 2 / 1.96 for one in claimed]) == pytest.approx(spread, rel=0.35)


def test_few_images_have_no_interval_and_no_test():
    few = random_features(7, 0)
    assert np.isnan(estimate(Mean(), few)["mean"].low)
    found = compare(Mean(), few, random_features(7, 1))["mean"]
    assert np.isnan(found.low) and found.p is None
    pairs = corrected({("a", "b"): {"mean": found}})
    assert pairs["a", "b"]["mean"].to_json() == {
        "value": found.value,
        "ci": [None, None],
        "n": 7,
        "method": "random halves",
    }


def test_tables_say_where_images_are_too_few():
    figure = estimate(Mean(), random_features(7, 0))["mean"].to_json()
    row = {"arm": "none", "n": 7, "cost": {}, "metrics": {"fid": figure}}
    pair = {"a": "none", "b": "sag", "metrics": {"fid": figure}}
    report = {"results": [row], "differences": [pair], "stand_in": None, "notes": []}
    assert all("(n = 7 is too small)" in table(report) for table in (views.arms, views.differences))
    enough = estimate(Mean(), random_features(40, 0))["mean"].to_json()
    assert "small" not in views.arms(report | {"results": [row | {"metrics": {"fid": enough}}]})


def test_equal_arms_do_not_differ():
    a = random_features(40, 0)
    metric = PrecisionRecall(random_features(60, 5)["features"])
    for found in compare(metric, a, a, draws=40).values():
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_difference_is_found_with_its_sign():
    real = Frechet(gaussian_of(random_features(500, 9)["features"]))
    near, far = random_features(80, 1, 0.1), random_features(80, 1, 0.8)
    found = compare(real, far, near, draws=99)["fid"]
    assert found.value > 0 and found.low > 0 and found.p == 0.01
    assert compare(real, near, far, draws=99)["fid"].value == pytest.approx(-found.value)


def test_permutation_holds_its_level():
    chances = [
        compare(Mean(), random_features(30, 2 * i), random_features(30, 2 * i + 1), draws=39)["mean"].p
        for i in range(200)
    ]
    assert np.mean(np.array(chances) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_accuracies_are_compared_in_pairs():
    right = torch.nn.functional.one_hot(torch.arange(2).repeat(50), 2).float()
    wrong = right.clone()
    wrong[:20] = 1 - wrong[:20]
    metric = Accuracy(np.arange(100) % 2)
    found = compare_accuracy(metric, {"logits": right}, {"logits": wrong})
    assert found.value == pytest.approx(0.2) and found.low > 0 and found.p < 0.01


def test_extrapolation_takes_the_bias_away():
    metric = Frechet(gaussian_of(random_features(50_000, 99, d=12)["features"]))
    generated = random_features(400, 0, d=12)
    found = extrapolate(metric, generated)
    assert metric.value(generated)["fid"] > 0.1
    assert abs(found.value) < 0.05 and found.low < 0.02 < found.high + 0.05
    with pytest.raises(ValueError, match="at least 100 images, got 99"):
        extrapolate(metric, random_features(99, 0, d=12))


def test_permutations_too_few_for_so_many_pairs_are_said():
    """The smallest p of 200 permutations is 1/201, times 21 pairs above .05; of 420, 21/421."""
    assert too_coarse(10, 200) == too_coarse(21, 420) == []
    (note,) = too_coarse(21, 200)
    assert "is 0.005 or more, Holm's over 21 pairs 0.1 or more at first: --resamples 420" in note
