"""From scores to masked patches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.masking.floor import image_seed
from eval.masking.ranking import masked_count, masks, ranks

SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30)


@given(SCORES, st.sampled_from(["descending", "ascending"]))
def test_ranks_are_those_of_a_stable_sort(scores, order):
    values = np.array(scores)
    places = np.argsort(-values if order == "descending" else values, kind="stable")
    expected = np.empty(len(scores), int)
    expected[places] = np.arange(len(scores))
    np.testing.assert_array_equal(ranks(torch.tensor([scores]), order)[0].numpy(), expected)


@given(SCORES, st.floats(0, 1))
def test_masks_are_nested_and_of_the_rounded_count(scores, fraction):
    places = ranks(torch.tensor([scores]), "descending")
    mask = masks(places, fraction)
    assert mask.sum() == round(fraction * len(scores)) == masked_count(fraction, len(scores))
    assert (masks(places, fraction / 2) <= mask).all()


def test_ties_go_by_position():
    assert ranks(torch.tensor([1.0, 2.0, 1.0, 2.0]), "descending").tolist() == [2, 0, 3, 1]
    assert ranks(torch.tensor([1.0, 2.0, 1.0, 2.0]), "ascending").tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_scores_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        ranks(torch.tensor([1.0, bad]), "descending")


def test_refuses_unknown_orders_and_fractions():
    with pytest.raises(ValueError, match="got 'up', expected 'descending' or 'ascending'"):
        ranks(torch.ones(2), "up")
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        masked_count(1.5, 10)


def test_seeds_differ_between_images_and_runs():
    seeds = {image_seed(seed, image) for seed in range(3) for image in range(100)}
    assert len(seeds) == 300 and all(0 <= seed < 2**32 for seed in seeds)
