"""One factorisation against networkx, dense eigenvectors and the iterations."""

import subprocess
import sys

import pytest
import torch

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov import (
    AttentionTransition,
    DenseTransition,
    Direct,
    MinimalResidual,
    MixtureTransition,
    direct,
    stationary_distribution,
    tokenrank,
)

from .chains import birth_death, cycle, damped_stationary, random_attention, random_weights
from .test_attention import queries_and_keys, softmax
from .test_krylov import diffusion, metastable
from .test_stationary import HostSyncs, networkx_pagerank

TIGHT = Direct(tol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("damping", [0.5, 0.85, 0.99])
def test_networkx_agrees(n, damping):
    matrix, weights = random_attention(n, seed=n), random_weights(n)
    result = stationary_distribution(matrix, damping=damping, personalization=weights, solver=TIGHT)
    torch.testing.assert_close(result.value, networkx_pagerank(matrix, damping, weights), atol=1e-8, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5,), (3, 8), (2, 3, 16)])
@pytest.mark.parametrize("damping", [0.3, 0.99, 0.999])
def test_the_eigenvector_of_the_damped_matrix(dtype, shape, damping):
    matrix = random_attention(*shape, dtype=dtype)
    result = stationary_distribution(matrix, damping=damping, solver=Direct())
    assert result.value.shape == shape and result.converged.all() and (result.steps == 0).all()
    assert result.value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = damped_stationary(DenseTransition(matrix).to_dense(), damping)
    atol = 1e-11 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(result.value.double(), exact, atol=atol, rtol=0)


CHAINS = {
    "metastable": metastable(128, 4, 0.01),
    "nearly reducible": metastable(128, 8, 1e-4),
    "reducible": torch.block_diag(birth_death(0.3, 0.1), birth_death(0.2, 0.2)),
    "diffusion": diffusion(128),
    "periodic": cycle(64),
    "stays": torch.eye(6, dtype=torch.float64),
    "sharp": random_attention(128, sharpness=6.0),
    "large": random_attention(700, sharpness=1.0),
}


@pytest.mark.parametrize("damping", [0.9, 0.99, 0.9999])
@pytest.mark.parametrize("name", CHAINS)
def test_float32_is_nowhere_farther_off_than_the_iteration(name, damping):
    matrix = CHAINS[name].float()
    exact = stationary_distribution(matrix.double(), damping=damping, solver=TIGHT).value
    own, iterated = (
        stationary_distribution(matrix, damping=damping, solver=solver)
        for solver in (Direct(), MinimalResidual())
    )
    error, other = ((result.value - exact).abs().sum() for result in (own, iterated))
    assert own.residual <= 1e-6
    assert error <= max(1.2 * other + 5e-7, torch.finfo(torch.float32).eps / (1 - damping))


def test_every_personalization_of_every_chain():
    matrix, weights = random_attention(2, 3, 6), random_weights(4, 1, 3, 6)
    result = stationary_distribution(matrix, damping=0.8, personalization=weights, solver=TIGHT)
    iterated = stationary_distribution(
        matrix, damping=0.8, personalization=weights, solver=MinimalResidual(tol=1e-13)
    )
    assert result.value.shape == (4, 2, 3, 6) and result.converged.shape == (4, 2, 3)
    torch.testing.assert_close(result.value, iterated.value, atol=1e-12, rtol=0)


def test_any_operator():
    q, k = queries_and_keys(3, 9, 4)
    heads = softmax(q, k, 0.5)
    for operator, matrix in (
        (AttentionTransition(q, k, 0.5, memory=0), heads),
        (MixtureTransition(AttentionTransition(q, k, 0.5), torch.ones(3)), heads.mean(0)),
    ):
        value = stationary_distribution(operator, solver=TIGHT).value
        torch.testing.assert_close(value, damped_stationary(matrix, 0.99))


def test_a_gradient_takes_the_same_factors(monkeypatch):
    factor, made = torch.linalg.lu_factor_ex, []
    monkeypatch.setattr(torch.linalg, "lu_factor_ex", lambda a: made.append(a) or factor(a))
    matrix = random_attention(2, 6).requires_grad_()
    stationary_distribution(matrix, solver=Direct()).value[..., 0].sum().backward()
    assert len(made) == 1 and matrix.grad.abs().max() > 0


class TestAuto:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setitem(direct.DIRECT_TOKENS, "cpu", 8)

    def test_small_chains_are_solved_directly_and_others_iterated(self):
        assert stationary_distribution(random_attention(8)).steps == 0
        assert stationary_distribution(random_attention(9)).steps > 0

    def test_both_agree(self):
        for n in (8, 9):
            matrix = random_attention(3, n, dtype=torch.float32, sharpness=4.0)
            value = stationary_distribution(matrix).value.double()
            torch.testing.assert_close(value, damped_stationary(matrix, 0.99), atol=2e-6, rtol=0)

    def test_a_chain_that_is_to_hold_no_matrix_is_iterated(self):
        q, k = queries_and_keys(2, 6, 4)
        assert (stationary_distribution(AttentionTransition(q, k, 0.5)).steps == 0).all()
        streamed = AttentionTransition(q, k, 0.5, memory=0)
        assert (stationary_distribution(streamed).steps > 0).all()
        assert stationary_distribution(streamed.mix(torch.ones(2))).steps > 0

    def test_damping_that_the_dtype_cannot_tell_from_1_is_iterated(self):
        slow = random_attention(6, dtype=torch.float32)
        assert stationary_distribution(slow, damping=1 - 1e-6).steps > 0
        assert stationary_distribution(slow.double(), damping=1 - 1e-6).steps == 0

    def test_another_word_is_refused(self, unchecked):
        with pytest.raises(ValueError, match="solver: got 'lu', expected 'auto', Direct"):
            stationary_distribution(random_attention(3), solver="lu")


def test_one_host_sync():
    matrix = DenseTransition(random_attention(8))
    with HostSyncs() as syncs:
        tokenrank(matrix)
    assert syncs.count == 1, "whether it converged"


def test_a_tolerance_that_rounding_does_not_reach_raises_and_says_what_to_do():
    matrix = random_attention(300, dtype=torch.float32)
    with pytest.raises(ConvergenceError, match=r"Direct: 1 of 1 chains .*factorisation.*solver=MinimalRes"):
        stationary_distribution(matrix, solver=Direct(tol=1.2e-7))
    lenient = Direct(tol=1.2e-7, raise_on_failure=False)
    assert not stationary_distribution(matrix, solver=lenient).converged


THREADS = """
import numpy, torch
torch.set_num_threads(2)  # from here on MKL takes as many, too
from tokenrank_guidance.markov import Direct, stationary_distribution, tokenrank

maps = torch.randn(8, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
exact = [
    numpy.linalg.solve(numpy.eye(256) - 0.99 * one.T, numpy.full(256, 0.01 / 256)) for one in maps.numpy()
]
for chains, tol in ((maps, 1e-11), (maps.float(), 1e-6)):
    for found in (
        stationary_distribution(chains, solver=Direct()).value,
        tokenrank(chains, head_weights=None),
        tokenrank(chains.clone().requires_grad_(), head_weights=None),
    ):
        assert abs(found.detach().double().numpy() - exact).max() < tol, tol
print("exact")
"""


def test_several_threads_factor_many_chains():
    """After `torch.set_num_threads`, torch factors a batch wrongly where MKL takes threads of its own."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "exact", done.stdout[:500] + done.stderr[-2000:]
