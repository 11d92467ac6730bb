"""Derivatives against finite differences, and what they cost."""

import pytest
import torch
from torch.autograd import gradcheck

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov import (
    AttentionTransition,
    DenseTransition,
    Direct,
    MinimalResidual,
    PowerIteration,
    column_sum,
    logits,
    mix_heads,
    multi_bounce,
    stationary_distribution,
    tokenrank,
)

from .chains import random_attention, random_weights
from .test_attention import queries_and_keys

TIGHT = [MinimalResidual(tol=1e-12), PowerIteration(tol=1e-12), Direct(tol=1e-12)]


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setattr(logits, "CPU_CHUNK_BYTES", 3 * 5 * 8)


def inputs(*shape):
    return tuple(side.requires_grad_() for side in queries_and_keys(*shape))


@pytest.mark.parametrize("memory", [0, 10**6])
@pytest.mark.parametrize("solver", TIGHT)
@pytest.mark.parametrize("masked", [False, True])
def test_tokenrank_of_queries_and_keys(masked, solver, memory):
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None

    def rank(q, k, v):
        chain = AttentionTransition(q, k, 0.8, mask, memory)
        return stationary_distribution(chain, damping=0.7, personalization=v, solver=solver).value

    sides = (*inputs(2, 5, 2), random_weights(5).requires_grad_())
    assert gradcheck(rank, sides, fast_mode=solver is not TIGHT[0])  # others along random directions


@pytest.mark.parametrize("head_weights", ["mean", None])
def test_tokenrank_of_mixed_heads_and_of_each(head_weights):
    def rank(q, k):
        chain = mix_heads(AttentionTransition(q, k, 0.8), head_weights)
        return stationary_distribution(chain, damping=0.9, solver=TIGHT[0]).value

    assert gradcheck(rank, inputs(2, 5, 3))


def test_tokenrank_of_a_restricted_chain():
    def rank(q, k):
        chain = AttentionTransition(q, k, 0.8).restrict(torch.tensor([3, 0, 1]))
        return stationary_distribution(chain, solver=TIGHT[0]).value

    assert gradcheck(rank, inputs(5, 3))


def test_tokenrank_of_head_weights_and_of_a_matrix():
    def rank(scores, weights):
        chain = DenseTransition(scores.softmax(-1)).mix(weights)
        return stationary_distribution(chain, solver=TIGHT[0]).value

    scores = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert gradcheck(rank, (scores.requires_grad_(), random_weights(3).requires_grad_()))


def test_bounces_and_column_sums():
    start = random_weights(5)
    for direction in ("outgoing", "incoming"):
        assert gradcheck(
            lambda q, k, d=direction: multi_bounce(AttentionTransition(q, k, 0.8), start, n=2, direction=d),
            inputs(2, 5, 3),
        )
    assert gradcheck(lambda q, k: column_sum(AttentionTransition(q, k, 0.8)), inputs(2, 5, 3))


def test_several_vectors_of_one_chain():
    q, k = inputs(5, 3)
    x = random_weights(4, 5).requires_grad_()
    assert gradcheck(lambda q, k, x: AttentionTransition(q, k, 0.8).apply(x), (q, k, x))
    assert gradcheck(lambda q, k, x: AttentionTransition(q, k, 0.8).apply_transpose(x), (q, k, x))


def test_the_public_function_and_dtypes():
    q, k = (side.detach().half().requires_grad_() for side in inputs(1, 2, 6, 4))
    rank = tokenrank(AttentionTransition(q, k, 0.5))
    rank[..., 0].sum().backward()
    assert rank.dtype == torch.float32 and q.grad.dtype == torch.float16
    assert q.grad.abs().max() > 0 and k.grad.isfinite().all()


@pytest.mark.parametrize("solver", [TIGHT[0], TIGHT[2]])
def test_a_chain_that_mixes_slowly(solver):
    """The adjoint is as slow as the chain, and its constant part must not be in the way."""
    q, k = inputs(6, 3)

    def rank(q, k):
        return stationary_distribution(AttentionTransition(q, k, 3.0), damping=0.999, solver=solver).value

    assert gradcheck(rank, (q, k), atol=1e-4)


def test_the_value_is_the_same_with_and_without_a_gradient():
    matrix = random_attention(6)
    plain = stationary_distribution(matrix).value
    assert torch.equal(stationary_distribution(matrix.requires_grad_()).value, plain)


def test_an_adjoint_that_does_not_converge_raises():
    matrix = random_attention(6, sharpness=4.0).requires_grad_()
    start = stationary_distribution(matrix.detach(), solver=PowerIteration(tol=1e-9)).value
    value = stationary_distribution(matrix, start=start, solver=PowerIteration(max_steps=2)).value
    with pytest.raises(ConvergenceError, match="gradient of a stationary distribution: 1 of 1 chains"):
        value[0].backward()
