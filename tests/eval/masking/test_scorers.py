"""Every scorer against a dense numpy oracle; the registry."""

import networkx
import numpy as np
import pytest
import torch

from eval.masking.scorers import SCORERS, all_layers, find_scorers
from tests.eval.masking.records import GRID, PATCHES, maps, mean_one, record

SEEDS = [5, 6]
IMAGE = list(range(3, 3 + PATCHES))


def pagerank(matrix: np.ndarray) -> np.ndarray:
    """networkx's, damped by 0.99, of one row-stochastic matrix."""
    graph = networkx.from_numpy_array(matrix, create_using=networkx.DiGraph)
    ranks = networkx.pagerank(graph, alpha=0.99, tol=1e-12, max_iter=5000)
    return np.array([ranks[i] for i in range(len(matrix))])


def lambda2(matrices: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(np.linalg.eigvals(matrices)))[..., -2]


def oracle(name: str, dense: np.ndarray) -> np.ndarray:
    """Ranks of dense maps (batch, heads, n, n) by the head handling that `name` says."""
    if "per_head" in name:
        return np.stack([np.mean([pagerank(head) for head in image], 0) for image in dense])
    weights = lambda2(dense) if "lambda2" in name else np.ones(dense.shape[:2])
    weights = weights / weights.sum(-1, keepdims=True)
    return np.stack(
        [pagerank(np.einsum("h,hij->ij", w, image)) for w, image in zip(weights, dense, strict=True)]
    )


@pytest.mark.parametrize("name", [name for name in SCORERS if name.startswith("tokenrank")])
def test_tokenrank_against_networkx(name):
    one = record()
    with_class = name.endswith("_cls")
    dense = maps(one, [0, *IMAGE] if with_class else IMAGE)
    expected = oracle(name, dense)[:, int(with_class) :]
    tolerance = 2e-3 if "lambda2" in name else 2e-4  # weights have three digits
    np.testing.assert_allclose(SCORERS[name]([one], SEEDS).numpy(), mean_one(expected), rtol=tolerance)


def test_cls_attention_is_the_class_row():
    one = record()
    expected = mean_one(maps(one).mean(1)[:, 0, 3:])
    np.testing.assert_allclose(SCORERS["cls_attention"]([one], SEEDS).numpy(), expected, rtol=1e-5)


def test_cls_attention_under_a_mask():
    one = record()
    masked = torch.zeros(1, 1, 1, one.tokens)
    masked[..., -1] = -torch.inf
    one = type(one)(one.q, one.k, one.scale, masked, grid=GRID, image=one.image, class_token=0)
    score = SCORERS["cls_attention"]([one], SEEDS)
    assert (score[:, -1] == 0).all() and torch.allclose(score.mean(-1), torch.ones(2))


def test_column_sum_is_over_patches_alone():
    one = record()
    expected = maps(one, IMAGE).mean(1).sum(1)
    np.testing.assert_allclose(SCORERS["column_sum"]([one], SEEDS).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("class_token", [True, False])
def test_rollout_is_the_product_of_all_layers(class_token):
    records = [record(seed, class_token=class_token) for seed in range(4)]
    product = np.eye(records[0].tokens)
    for one in records:
        product = (maps(one).mean(1) + np.eye(one.tokens)) / 2 @ product
    row = product[:, 0] if class_token else product.mean(1)
    expected = mean_one(row[:, records[0].image])
    np.testing.assert_allclose(SCORERS["rollout"](records, SEEDS).numpy(), expected, rtol=1e-5)


def test_centre_comes_first_and_corners_last():
    score = SCORERS["centre"]([record()], SEEDS)[0].view(GRID)
    assert score.argmax().item() in (5, 6)
    assert torch.equal(score, score.flip(0)) and torch.equal(score, score.flip(1))
    assert score[0, 0] == score.min() > 0


def test_random_depends_on_the_image_alone():
    alone = SCORERS["random"]([record(batch=1)], [6])
    assert torch.equal(SCORERS["random"]([record()], SEEDS)[1:], alone)
    assert not torch.equal(SCORERS["random"]([record(batch=1)], [7]), alone)


@pytest.mark.parametrize("name", [name for name, one in SCORERS.items() if one.reads != "gradients"])
def test_has_mean_one_and_does_not_depend_on_the_batch(name):
    records = [record(seed) for seed in range(3)]
    score = SCORERS[name](records, SEEDS)
    assert score.shape == (2, PATCHES) and (score >= 0).all()
    torch.testing.assert_close(score.mean(-1), torch.ones(2, dtype=score.dtype))
    alone = SCORERS[name]([one.select(1) for one in records], SEEDS[1:])
    torch.testing.assert_close(score[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cls_attention", "tokenrank_cls", "tokenrank_per_head_cls"])
def test_refuses_a_model_without_class_token(name):
    with pytest.raises(ValueError, match="has no class token"):
        SCORERS[name]([record(class_token=False)], SEEDS)


def test_unknown_scorer_is_named_with_the_closest():
    with pytest.raises(
        ValueError, match=r"unknown scorer 'token_rank', did you mean 'tokenrank'\? Known: random, "
    ):
        find_scorers(["random", "token_rank"])
    with pytest.raises(ValueError, match=r"unknown scorer 'zzz'\. Known: random, "):
        find_scorers(["zzz"])
    with pytest.raises(ValueError, match="no scorer is named"):
        find_scorers([])


def test_a_scorer_of_all_layers_is_one_function_of_the_records():
    records = [record(seed) for seed in range(3)]
    assert all_layers(lambda seen: torch.tensor(len(seen)))(records, SEEDS) == 3
