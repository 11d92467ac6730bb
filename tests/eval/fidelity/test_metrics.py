"""Every metric is torch-fidelity's, on whole sets and on subsets."""

import numpy as np
import pytest
import torch
import torch_fidelity
from torch_fidelity.metric_kid import kernel_mmd
from torch_fidelity.metric_prc import prc_features_to_metric

from eval.fidelity.cache import features_of
from eval.fidelity.images import open_generated
from eval.fidelity.metrics import Accuracy, Frechet, Kernel, PrecisionRecall, Score
from eval.fidelity.statistics import gaussian_of
from tests.eval.fidelity.conftest import random_features


@pytest.fixture(scope="module")
def sets():
    return random_features(60, 0, 0.5), random_features(80, 1)


def subsets(n: int, count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(n)[: n // 2] for _ in range(count)]


def part(features, subset):
    return {name: tensor[torch.from_numpy(subset)] for name, tensor in features.items()}


def test_numbers_are_those_of_torch_fidelity_on_the_same_folders(arm, extractor, tmp_path):
    first, second = arm("none", shift=30), arm("real", seed=3)
    a, b = (features_of(one, extractor, tmp_path / "c") for one in open_generated([first, second]))
    direct = torch_fidelity.calculate_metrics(
        input1=str(first),
        input2=str(second),
        samples_find_deep=True,
        feature_extractor=extractor.name,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        fid=True,
        isc=True,
        kid=True,
        prc=True,
        kid_subset_size=24,
    )
    assert Frechet(gaussian_of(b["features"])).value(a) == {"fid": direct["frechet_inception_distance"]}
    assert Score().value(a) == {"isc": direct["inception_score_mean"]}
    assert Kernel(b["features"]).value(a) == {"kid": direct["kernel_inception_distance_mean"]}
    expected = {name: direct[name] for name in ("precision", "recall")}
    assert PrecisionRecall(b["features"]).value(a) == expected


def test_a_set_is_at_no_distance_from_itself(sets):
    metric = Frechet(gaussian_of(sets[0]["features"]))
    assert metric.value(sets[0])["fid"] == pytest.approx(0, abs=1e-3)
    assert metric.of_subsets(sets[0], [np.arange(60)])["fid"] == pytest.approx([0], abs=1e-6)


def test_precision_is_of_the_generated_and_recall_of_the_real():
    """Generated images all in one place of the reference: precise, and recalling little."""
    real = random_features(200, 0)["features"]
    narrow = {"features": 0.05 * random_features(200, 1)["features"], "logits": torch.zeros(200, 2)}
    found = PrecisionRecall(real).value(narrow)
    assert found["precision"] == 1 and found["recall"] < 0.1


def test_subsets_of_frechet_and_score(sets):
    generated, real = sets
    for metric, tolerance in ((Frechet(gaussian_of(real["features"])), 1e-5), (Score(), 1e-6)):
        chosen = subsets(60)
        found = metric.of_subsets(generated, chosen)
        for i, subset in enumerate(chosen):
            if isinstance(metric, Score):  # torch-fidelity shuffles, and here the order is the subset's
                from torch_fidelity.metric_isc import isc_features_to_metric

                logits = part(generated, subset)["logits"]
                expected = isc_features_to_metric(logits, splits=5, shuffle=False)
                expected = {"isc": expected["inception_score_mean"]}
            else:
                expected = metric.value(part(generated, subset))
            for name, value in expected.items():
                assert found[name][i] == pytest.approx(value, rel=tolerance)


def test_subsets_of_the_kernel_distance(sets):
    generated, real = sets
    x, y = generated["features"].double(), real["features"].double()[:30]
    found = Kernel(y).of_subsets(generated, subsets(60))["kid"]
    for value, subset in zip(found, subsets(60), strict=True):
        expected = kernel_mmd(x[torch.from_numpy(subset)].numpy(), y.numpy())  # 30 of each
        assert value == pytest.approx(expected, abs=1e-9)


def test_subsets_of_precision_and_recall(sets):
    generated, real = sets
    found = PrecisionRecall(real["features"]).of_subsets(generated, subsets(60))
    for i, subset in enumerate(subsets(60)):
        own = part(generated, subset)["features"]
        expected = prc_features_to_metric(own, real["features"], verbose=False)
        assert found["precision"][i] == pytest.approx(expected["precision"])
        assert found["recall"][i] == pytest.approx(expected["recall"])


def test_accuracy_chooses_among_the_prompts_classes_alone():
    logits = torch.tensor([[9.0, 1, 0], [9, 0, 1], [9, 1, 0], [9, 0, 1]])
    metric = Accuracy(np.array([1, 2, 2, -1]))
    np.testing.assert_array_equal(metric.hits({"logits": logits}), [1, 1, 0, np.nan])
    assert metric.value({"logits": logits})["accuracy"] == pytest.approx(2 / 3)
    assert metric.interval({"logits": logits}).n == 3
