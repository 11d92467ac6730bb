"""Minimal residuals against the plain iteration."""

import pytest
import torch
from scipy.stats import spearmanr

from tokenrank_guidance.markov import (
    AttentionTransition,
    MinimalResidual,
    PowerIteration,
    as_operator,
    stationary_distribution,
)

from .chains import cycle, damped_stationary, random_attention
from .test_attention import queries_and_keys
from .test_krylov import diffusion, metastable

SLOW = {
    "metastable": metastable(128, 4, 0.01),
    "nearly reducible": metastable(128, 8, 1e-4),
    "diffusion": diffusion(128),
    "sharp": random_attention(128, sharpness=6.0),
}
FASTER = {"metastable": 4, "nearly reducible": 1, "diffusion": 4, "sharp": 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("damping", [0.99, 0.999])
@pytest.mark.parametrize("name", SLOW)
def test_fewer_steps_to_the_same_place(name, damping, dtype):
    matrix = SLOW[name].to(dtype)
    plain = stationary_distribution(matrix, damping=damping, solver=PowerIteration())
    result = stationary_distribution(matrix, damping=damping, solver=MinimalResidual())
    assert result.steps <= plain.steps / FASTER[name]
    exact = damped_stationary(as_operator(matrix).to_dense(), damping)
    error, plain_error = ((each.value - exact).abs().sum() for each in (result, plain))
    assert error <= 1e-6 / (1 - damping)
    assert error <= 2 * plain_error + 1e-6


@pytest.mark.parametrize("n", [2, 3, 64])
@pytest.mark.parametrize("damping", [0.99, 0.999])
def test_a_periodic_chain(n, damping):
    start = torch.eye(n, dtype=torch.float64)[0]
    result = stationary_distribution(cycle(n), damping=damping, start=start)
    torch.testing.assert_close(
        result.value, torch.full((n,), 1 / n, dtype=torch.float64), atol=2e-6 / (1 - damping), rtol=0
    )


def test_everything_attends_to_one_token():
    """The chain's norm is large, its change is not: minimal residuals alone would stand still."""
    star = torch.zeros(50, 50, dtype=torch.float64)
    star[:, 0] = 1
    star[0] = torch.full((50,), 1 / 49)
    star[0, 0] = 0
    result = stationary_distribution(star, damping=0.99, solver=MinimalResidual(tol=1e-10))
    torch.testing.assert_close(result.value, damped_stationary(star, 0.99), atol=1e-8, rtol=0)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_any_depth_converges(depth):
    matrix = SLOW["metastable"]
    result = stationary_distribution(matrix, solver=MinimalResidual(tol=1e-9, depth=depth))
    torch.testing.assert_close(result.value, damped_stationary(matrix, 0.99), atol=1e-7, rtol=0)


def test_a_noisy_chain_takes_no_more_steps():
    matrix = random_attention(4, 64, sharpness=1.0)
    plain = stationary_distribution(matrix, solver=PowerIteration())
    assert (stationary_distribution(matrix, solver=MinimalResidual()).steps <= plain.steps).all()


def test_the_depth_is_checked():
    with pytest.raises(ValueError, match="depth: got 0, expected at least 1"):
        MinimalResidual(depth=0)


@pytest.mark.parametrize("heads", [1, 8])
def test_the_default_tolerance_ranks_tokens_as_the_exact_vector_does(heads):
    q, k = queries_and_keys(heads, 256, 64, dtype=torch.float32)
    chain = AttentionTransition(q, k, 0.125).mix(torch.ones(heads))
    exact = damped_stationary(chain.to_dense(), 0.99)
    assert spearmanr(stationary_distribution(chain).value, exact).statistic >= 0.9999


@pytest.mark.parametrize("seed", range(4))
def test_a_chain_that_is_done_at_once_is_not_spoilt_by_one_that_takes_hundreds_of_steps(seed):
    g = torch.Generator().manual_seed(seed)
    fast = (1e-3 * torch.randn(64, 64, generator=g)).softmax(-1)
    slow = (torch.eye(64).roll(1, 0) + 0.3 * torch.eye(64)) / 1.3
    options = {
        "personalization": torch.rand(64, generator=g),
        "damping": 0.999,
        "solver": MinimalResidual(),
    }
    together = stationary_distribution(torch.stack([fast, slow]), **options)
    alone = stationary_distribution(fast, **options)
    assert together.steps[1] > 20 * together.steps[0]
    torch.testing.assert_close(together.value[0], alone.value, atol=1e-8, rtol=0)
