"""Chains through several layers against dense oracles."""

from dataclasses import replace

import networkx
import numpy as np
import pytest
import torch

from eval.masking.cross_layer import ClassTokenRank, LazyWalk, deepest, joined
from eval.masking.scorers import SCORERS
from tests.eval.masking.records import maps, mean_one, record
from tests.eval.masking.test_scorers import lambda2

RECORDS = [record(seed) for seed in range(8)]


def test_a_share_of_the_layers_is_counted_from_the_end():
    assert [one.module for one in deepest(RECORDS, 0.25)] == ["layers.6", "layers.7"]
    assert deepest(RECORDS, 0.01) == RECORDS[-1:]
    assert deepest(RECORDS, 1.0) == RECORDS


@pytest.mark.parametrize("staying", [0.0, 0.3, 0.7])
def test_the_lazy_walk_is_a_product_of_lazy_maps(staying):
    row = np.eye(RECORDS[0].tokens)[0]
    rows = np.stack([row, row])
    for one in reversed(RECORDS[-4:]):
        lazy = staying * np.eye(one.tokens) + (1 - staying) * maps(one).mean(1)
        rows = np.einsum("bi,bij->bj", rows, lazy)
    score = LazyWalk(share=0.5, staying=staying)(RECORDS)
    np.testing.assert_allclose(score.numpy(), mean_one(rows[:, RECORDS[0].image]), rtol=1e-5)


def test_through_all_layers_and_half_lazy_it_is_rollout():
    assert torch.equal(LazyWalk(share=1.0)(RECORDS), SCORERS["rollout"](RECORDS, [0, 1]))


@pytest.mark.parametrize("head_weights", ["mean", "lambda2"])
@pytest.mark.parametrize("damping", [0.3, 0.9])
def test_class_token_rank_is_personalized_pagerank_of_the_joint_chain(damping, head_weights):
    dense = np.concatenate([maps(one) for one in RECORDS[-2:]], 1)
    weights = lambda2(dense) if head_weights == "lambda2" else np.ones(dense.shape[:2])
    expected = []
    for image, w in zip(dense, weights / weights.sum(-1, keepdims=True), strict=True):
        graph = networkx.from_numpy_array(np.einsum("h,hij->ij", w, image), create_using=networkx.DiGraph)
        ranks = networkx.pagerank(graph, alpha=damping, personalization={0: 1}, tol=1e-13, max_iter=5000)
        expected.append([ranks[i] for i in range(len(ranks))])
    score = ClassTokenRank(share=0.25, damping=damping, head_weights=head_weights)(RECORDS)
    patches = mean_one(np.array(expected)[:, RECORDS[0].image])
    np.testing.assert_allclose(score.numpy(), patches, rtol=2e-3 if head_weights == "lambda2" else 1e-4)


def test_refuses_layers_that_make_no_common_chain_and_models_without_class_token():
    with pytest.raises(ValueError, match="different scales, or with attention masks"):
        joined([RECORDS[0], replace(RECORDS[1], scale=1.0)])
    with pytest.raises(ValueError, match="has no class token to restart at: use tokenrank"):
        ClassTokenRank(share=0.5, damping=0.3)([record(class_token=False)])
