from dataclasses import replace

import networkx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sag import ColumnSumScorer, TokenRankScorer
from sag.mask import proportional, salient, score_image
from tokenrank_guidance import AttentionRecord
from tokenrank_guidance.markov import DIRECT_TOKENS, deferred_checks


def record(grid, batch=2, heads=3, text=0, module="layer", seed=0):
    """Random sharp attention over `grid`, behind `text` tokens."""
    g = torch.Generator().manual_seed(seed)
    tokens = text + grid[0] * grid[1]
    q, k = (2 * torch.randn(batch, heads, tokens, 8, generator=g, dtype=torch.float64) for _ in range(2))
    return AttentionRecord(q, k, 0.3, module=module, grid=grid, image=slice(text, tokens))


def chain(matrix, grid):
    """A record whose map is `matrix`: queries are its logarithm, keys the identity."""
    n = len(matrix)
    return AttentionRecord(matrix.log()[None, None], torch.eye(n).to(matrix)[None, None], 1.0, grid=grid)


def pagerank(matrix, damping=0.99):
    graph = networkx.from_numpy_array(matrix.numpy(), create_using=networkx.DiGraph)
    rank = networkx.pagerank(graph, alpha=damping, tol=1e-12, max_iter=10_000)
    return torch.tensor([rank[i] for i in range(len(matrix))], dtype=torch.float64) * len(matrix)


@pytest.mark.parametrize(
    "scorer", [TokenRankScorer(), TokenRankScorer(direction="incoming"), ColumnSumScorer()]
)
def test_the_host_reads_no_value_from_the_map_to_the_mask(scorer, monkeypatch):
    """On the meta device there is none to read: a read raises."""
    monkeypatch.setitem(DIRECT_TOKENS, "meta", 64)
    layer = record((3, 5), text=4)
    layer = replace(layer, q=layer.q.to("meta"), k=layer.k.to("meta"))
    with deferred_checks():
        score = score_image([layer, layer], scorer)
    assert salient(score, 1.0).shape == proportional(score, 1.0).shape == (2, 3, 5)
    with pytest.raises(RuntimeError, match="on meta tensors"):
        score_image([layer], scorer)


def test_tokenrank_score_is_networkx_pagerank_of_the_mixed_map():
    layer = record((3, 5), text=4)
    scores = score_image([layer], TokenRankScorer())
    maps = layer.restrict("image").maps().mean(1)
    for row in range(2):
        torch.testing.assert_close(scores[row].flatten(), pagerank(maps[row]), rtol=0, atol=1e-4)


def test_column_sum_score_is_what_diffusers_sums():
    layer = record((4, 4))
    expected = layer.maps().mean(1).sum(1).unflatten(1, (4, 4))
    torch.testing.assert_close(score_image([layer], ColumnSumScorer()), expected)


# The toy chain of the poster: column sums rank state 0 first, TokenRank state 4.
TOY = torch.tensor(
    [
        [0.01, 0.04, 0.02, 0.85, 0.08],
        [0.82, 0.04, 0.07, 0.01, 0.06],
        [0.80, 0.07, 0.03, 0.05, 0.05],
        [0.06, 0.06, 0.03, 0.04, 0.81],
        [0.53, 0.03, 0.03, 0.06, 0.35],
    ],
    dtype=torch.float64,
)


def test_the_two_scorers_rank_the_toy_chain_differently():
    layer = chain(TOY, (1, 5))
    rank = score_image([layer], TokenRankScorer(damping=0.9999))[0, 0]
    received = score_image([layer], ColumnSumScorer())[0, 0]
    assert (received.argmax(), rank.argmax()) == (0, 4)
    torch.testing.assert_close(
        rank / 5, torch.tensor([0.2779, 0.0425, 0.0289, 0.2717, 0.3789]).double(), atol=1e-3, rtol=0
    )


def test_head_weights_reach_the_chain():
    layer = record((3, 3))
    scores = {w: score_image([layer], TokenRankScorer(head_weights=w)) for w in ("mean", "lambda2")}
    assert (scores["mean"] - scores["lambda2"]).abs().max() > 1e-3


@pytest.mark.parametrize("grids", [[(4, 6)], [(2, 3), (4, 6)], [(5, 7), (2, 3), (3, 3)]])
def test_layers_are_combined_on_the_finest_grid_with_mean_1(grids):
    layers = [record(grid, seed=i) for i, grid in enumerate(grids)]
    score = score_image(layers, TokenRankScorer())
    assert score.shape == (2, *max(grids, key=lambda grid: grid[0] * grid[1]))
    torch.testing.assert_close(score.mean((1, 2)), torch.ones(2, dtype=torch.float64))


def test_layers_of_one_grid_are_averaged():
    layers = [record((3, 4), seed=i) for i in range(2)]
    alone = [score_image([layer], ColumnSumScorer()) for layer in layers]
    torch.testing.assert_close(score_image(layers, ColumnSumScorer()), sum(alone) / 2)


def test_salient_is_strictly_above_the_threshold():
    score = torch.tensor([[[0.5, 1.0, 1.5]]])
    assert salient(score, 1.0).tolist() == [[[False, False, True]]]


def test_weights_are_half_at_the_threshold_and_proportional_below_twice_it():
    score = torch.tensor([[[0.0, 0.4, 0.8, 1.2, 1.6, 9.0, -0.1]]])
    expected = torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.0]]])
    torch.testing.assert_close(proportional(score, 0.8), expected)


@given(score=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30), threshold=st.floats(1 / 128, 64))
def test_weights_are_weights_and_above_half_where_the_hard_mask_is(score, threshold):
    row = torch.tensor(score, dtype=torch.float64)[None, None]
    weights = proportional(row, threshold)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights.diff(dim=-1).sign() * row.diff(dim=-1).sign() >= 0).all()
    assert torch.equal(weights > 0.5, salient(row, threshold))


BROKEN = {
    "shape": (lambda r: torch.ones(r.batch, r.tokens + 1), r"returned \(2, 13\); .* \(2, 12\)"),
    "no batch": (lambda r: torch.ones(r.tokens), r"returned \(12,\)"),
    "type": (lambda r: [1.0] * r.tokens, "returned list"),
    "nan": (lambda r: torch.full((r.batch, r.tokens), torch.nan), "not finite at layer"),
    "infinite": (lambda r: torch.full((r.batch, r.tokens), torch.inf), "not finite at layer"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_scorer_that_breaks_its_contract_is_named(fault):
    scorer, message = BROKEN[fault]
    with pytest.raises(ValueError, match=message):
        score_image([record((3, 4))], scorer)


def test_a_layer_without_a_grid_is_refused():
    layer = record((3, 4))
    bare = AttentionRecord(layer.q, layer.k, layer.scale, module="blind")
    with pytest.raises(ValueError, match="blind does not know its grid"):
        score_image([bare], ColumnSumScorer())


@pytest.mark.parametrize("scorer", [TokenRankScorer(), ColumnSumScorer()])
def test_nan_in_attention_is_an_error(scorer):
    layer = record((3, 4))
    layer.q[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="expected finite"):
        score_image([layer], scorer)


def test_scores_carry_no_gradient():
    layer = record((3, 4))
    layer.q.requires_grad_()
    assert not score_image([layer], ColumnSumScorer()).requires_grad
