import pytest
import torch

from tokenrank_guidance.markov import (
    DenseTransition,
    column_sum,
    lambda2_head_weights,
    mix_heads,
    multi_bounce,
    stationary_distribution,
    tokenrank,
    tokenrank_score,
)

from .chains import damped_stationary, random_attention, random_weights

HEADS = random_attention(2, 3, 6, sharpness=3.0)


class Record:
    def transition(self):
        return DenseTransition(HEADS)


@pytest.mark.parametrize(
    "maps", [HEADS, DenseTransition(HEADS), Record()], ids=["tensor", "operator", "record"]
)
def test_tokenrank_of_whatever_holds_the_maps(maps):
    expected = damped_stationary(HEADS.mean(1), 0.99)
    torch.testing.assert_close(tokenrank(maps), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokenrank_score(maps), 6 * expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(column_sum(maps), HEADS.mean(1).sum(-2))


def test_heads_mixed_before_or_after():
    weights = lambda2_head_weights(HEADS)
    before = damped_stationary(torch.einsum("bh,bhij->bij", weights, HEADS), 0.9)
    after = torch.einsum("bh,bhi->bi", weights, damped_stationary(HEADS, 0.9))
    assert (before - after).abs().max() > 1e-3, "the two must differ for this to test anything"
    options = {"damping": 0.9, "head_weights": "lambda2"}
    torch.testing.assert_close(tokenrank(HEADS, mix="before", **options), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokenrank(HEADS, mix="after", **options), after, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokenrank_score(HEADS, mix="after", **options), 6 * after, atol=6e-5, rtol=0)


@pytest.mark.parametrize("mix", ["before", "after"])
def test_one_head_can_be_picked_and_none_keeps_them_apart(mix):
    each = tokenrank(HEADS, head_weights=None, mix=mix)
    assert each.shape == (2, 3, 6)
    for head in range(3):
        one_hot = torch.eye(3)[head]
        torch.testing.assert_close(
            tokenrank(HEADS, head_weights=one_hot, mix=mix), each[:, head], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("mix", ["before", "after"])
def test_personalization_per_image(mix):
    weights = random_weights(2, 6)
    actual = tokenrank(HEADS, damping=0.5, personalization=weights, mix=mix)
    if mix == "before":
        expected = damped_stationary(HEADS.mean(1), 0.5, weights)
    else:
        expected = damped_stationary(HEADS, 0.5, weights.unsqueeze(1)).mean(1)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    shared = tokenrank(HEADS, damping=0.5, personalization=weights[0], mix=mix)
    torch.testing.assert_close(shared[0], actual[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mix", ["before", "after"])
def test_personalization_and_starts_may_be_arrays_or_lists(mix, unchecked):
    weights = random_weights(6)
    for values in (weights.numpy(), weights.tolist()):
        actual = tokenrank(HEADS, damping=0.5, personalization=values, mix=mix)
        expected = tokenrank(HEADS, damping=0.5, personalization=weights, mix=mix)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(multi_bounce(HEADS, values), multi_bounce(HEADS, weights))


@pytest.mark.parametrize("mix", ["before", "after"])
@pytest.mark.parametrize("head_weights", ["mean", "lambda2", None])
def test_a_plain_chain_has_no_heads_to_mix(mix, head_weights):
    actual = tokenrank(HEADS[0, 0], head_weights=head_weights, mix=mix)
    torch.testing.assert_close(actual, damped_stationary(HEADS[0, 0], 0.99), atol=1e-5, rtol=0)
    torch.testing.assert_close(column_sum(HEADS[0, 0], head_weights), HEADS[0, 0].sum(0))


def test_weights_for_a_plain_chain_are_refused():
    with pytest.raises(ValueError, match=r"head_weights: chain of shape \(6, 6\) has no head axis"):
        tokenrank(HEADS[0, 0], head_weights=torch.ones(3))


def test_column_sum_by_weights():
    weights = random_weights(2, 3)
    share = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(column_sum(HEADS, weights), torch.einsum("bh,bhij->bj", share, HEADS))
    torch.testing.assert_close(
        column_sum(HEADS, "lambda2"), torch.einsum("bh,bhij->bj", lambda2_head_weights(HEADS), HEADS)
    )
    torch.testing.assert_close(column_sum(HEADS, None), HEADS.sum(-2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_have_mean_one(dtype):
    maps = random_attention(2, 4, 100, dtype=dtype, sharpness=4.0)
    for score in (column_sum(maps), tokenrank_score(maps), tokenrank_score(maps, mix="after", damping=0.999)):
        assert score.shape == (2, 100)
        torch.testing.assert_close(score.mean(-1), torch.ones(2, dtype=score.dtype), atol=1e-6, rtol=0)


def test_mixing_first_leads_to_the_solver():
    result = stationary_distribution(mix_heads(HEADS, "lambda2"))
    assert torch.equal(result.value, tokenrank(HEADS, head_weights="lambda2"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "during"}, "mix: got 'during', expected 'before' or 'after'"),
        ({"head_weights": "max"}, "head_weights: got 'max', expected 'mean', 'lambda2', None or a tensor"),
        ({"head_weights": torch.ones(4)}, r"head_weights: shape \(4,\), expected \(3,\) or \(2, 3\)"),
        ({"damping": 1.0}, "damping: got 1.0"),
        ({"personalization": torch.ones(5)}, r"personalization: shape \(5,\)"),
        ({"personalization": torch.ones(5), "mix": "after"}, r"personalization: shape"),
        ({"personalization": {0: 1.0}}, "personalization: got dict, expected a tensor, or numbers"),
        ({"personalization": {0: 1.0}, "mix": "after"}, "personalization: got dict"),
    ],
)
@pytest.mark.parametrize("score", [tokenrank, tokenrank_score])
def test_malformed_arguments_are_refused(score, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        score(HEADS, **options)
