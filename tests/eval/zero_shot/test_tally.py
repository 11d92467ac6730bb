"""The metrics on constructed masks, by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from diffseg.zero_shot import Options
from eval.zero_shot import Arm, Tally, ZeroShotResult
from eval.zero_shot.protocol import PROTOCOLS
from eval.zero_shot.tally import squared, tally
from eval.zero_shot.views import VIEWS
from tokenrank_guidance.report import plain

MASK = np.array([[1, 1, 0, 0], [1, 1, 0, 255]])


def test_counts_by_hand():
    heat = torch.tensor([[0.9, 0.2, 0.8, 0.0], [1.0, 0.6, 0.1, 0.5]])  # its mean, scaled, is 0.5125
    found = tally(heat, MASK)
    assert found.confusion.tolist() == [[2, 1], [1, 3]]
    assert found.one_hot.tolist() == [5, 9]
    truth, score = MASK[MASK != 255], heat.numpy()[MASK != 255]
    labels, scores = np.concatenate([1 - truth, truth]), np.concatenate([1 - score, score])
    assert found.precision == pytest.approx(average_precision_score(labels, scores))
    assert Tally.of(found.to_json()).confusion.tolist() == found.confusion.tolist()


def test_pooled_over_pictures_and_the_trap_is_a_function_of_accuracy():
    one = Tally(np.array([[2, 1], [1, 3]]), np.array([5, 9]), 0.5)
    two = Tally(np.array([[6, 0], [2, 0]]), np.array([6, 10]), 0.9)
    result = ZeroShotResult([Arm("row", Options(method="row"))], ["cat", "dog"], [[one], [two]])
    (row,) = result.to_json()["results"]
    value = {name: row[name].value for name in ("acc", "miou", "map", "ca_miou")}
    assert value["acc"] == pytest.approx(11 / 15)
    assert value["miou"] == pytest.approx((8 / 12 + 3 / 7) / 2)
    assert value["map"] == pytest.approx(0.7)
    assert value["ca_miou"] == pytest.approx(11 / 19) == pytest.approx(value["acc"] / (2 - value["acc"]))
    assert [(c["class"], c["acc"]) for c in row["per_class"]] == [("cat", 5 / 7), ("dog", 6 / 8)]
    assert result.everywhere["acc"].value == pytest.approx(6 / 15)
    methods, _, classes = VIEWS.markdown(plain(result.to_json())).split("\n\n")
    assert methods.splitlines()[2].startswith("| row | 73.3 (")
    assert [line.split(" | ")[:2] for line in classes.splitlines()[2:]] == [["| cat", "1"], ["| dog", "1"]]


def test_square_of_the_protocol():
    image = Image.fromarray(np.zeros((30, 60, 3), dtype=np.uint8))
    mask = np.zeros((30, 60), dtype=np.int64)
    mask[:, 30:] = 255
    pixels, small = squared(image, mask)
    assert pixels.shape == (3, 224, 224) and small.shape == (224, 224)
    assert set(np.unique(small)) == {0, 255} and (small == 255).sum() == 224 * 112


def test_protocols_of_the_published_runs_by_hand():
    """2×2 tokens onto 4×6 pixels: the mean of the tokens, 0.45, marks two."""
    heat, size = torch.tensor([[0.0, 0.6], [0.3, 0.9]]), (4, 6)
    blocks = np.kron(heat.numpy(), np.ones((2, 3))) / 0.9
    for name in ("concept-attention", "attention-chains"):
        scaled, predicted = PROTOCOLS[name].read(heat, size)
        np.testing.assert_allclose(scaled, blocks, atol=1e-7)
        assert predicted.tolist() == [[False] * 3 + [True] * 3] * 4
    scaled, _ = PROTOCOLS["own-size"].read(heat, size)
    assert (np.diff(scaled[0]) >= 0).all() and len(np.unique(scaled[0])) > 2
    assert [PROTOCOLS[name].resolution for name in PROTOCOLS] == [None, 1024, 512]


def test_tokens_that_are_unevenly_many_pixels_are_thresholded_before():
    """Of 3 tokens on 4 pixels one counts twice: that moves the mean of the pixels, but not of the tokens."""
    heat = torch.tensor([[0.0, 0.5, 1.0]])
    at_tokens = PROTOCOLS["concept-attention"].read(heat, (1, 4))[1]
    at_pixels = PROTOCOLS["attention-chains"].read(heat, (1, 4))[1]
    spread = heat[0, torch.tensor([0, 1, 1, 2])]  # the nearest token of each pixel's centre
    assert at_tokens.tolist() == [(spread > 0.5).tolist()]
    assert at_pixels.tolist() == [(spread > spread.mean()).tolist()]
