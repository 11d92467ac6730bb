"""Arnoldi's second eigenvalue against dense and sparse eigensolvers."""

import pytest
import scipy.sparse.linalg
import torch

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov import (
    Arnoldi,
    AttentionTransition,
    Eigvals,
    MixtureTransition,
    Squaring,
    as_operator,
    solve_second_eigenvalue,
    spectrum,
)

from .chains import birth_death, cycle, random_attention
from .test_attention import queries_and_keys, softmax

LENIENT = Arnoldi(raise_on_failure=False)


def by_eigvals(matrix):
    return torch.linalg.eigvals(matrix.double()).abs().topk(2, dim=-1).values[..., 1]


def metastable(n, blocks, leak):
    """Noise in `blocks` blocks of tokens that a walk leaves with probability `leak`."""
    noise = random_attention(n, sharpness=1.0)
    block = torch.arange(n) * blocks // n
    inside = noise * (block[:, None] == block)
    return (1 - leak) * inside / inside.sum(-1, keepdim=True) + leak * noise


def diffusion(n, width=4.0):
    """Attention to near tokens: eigenvalues crowd below 1."""
    position = torch.arange(n, dtype=torch.float64)
    noise = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (noise - ((position[:, None] - position) / width) ** 2).softmax(-1)


CHAINS = {
    "noise": random_attention(200, sharpness=1.0),
    "sharp": random_attention(200, sharpness=3.0),
    "sharper": random_attention(200, sharpness=6.0),
    "metastable": metastable(200, 5, 0.1),
    "nearly reducible": metastable(200, 8, 1e-4),
    "diffusion": diffusion(200),
    "a complex pair": 0.6 * torch.block_diag(cycle(3), torch.full((197, 197), 1 / 197)) + 0.4 / 200,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CHAINS)
def test_eigvals_agrees_to_a_thousandth(name, dtype):
    matrix = CHAINS[name].to(dtype)
    result = solve_second_eigenvalue(matrix, Arnoldi())
    exact = by_eigvals(as_operator(matrix).to_dense())
    assert result.converged and result.value.dtype == dtype
    assert abs(result.value - exact) <= 1e-3 * exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CHAINS)
def test_squaring_agrees_to_a_ten_thousandth(name, dtype):
    matrix = CHAINS[name].to(dtype)
    result = solve_second_eigenvalue(torch.stack([matrix, 0.5 * matrix + 0.5 / len(matrix)]), Squaring())
    exact = by_eigvals(as_operator(matrix).to_dense()).to(dtype)
    assert result.converged.all() and (result.residual <= 1e-3 * exact).all()
    torch.testing.assert_close(result.value, torch.stack([exact, exact / 2]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("matrix", [torch.full((5, 5), 0.2), birth_death(0.5, 0.5), torch.ones(1, 1)])
def test_squaring_of_a_chain_that_forgets_at_once(matrix):
    assert solve_second_eigenvalue(matrix, Squaring()).value < 1e-6


def test_the_size_chooses_between_lapack_squaring_and_arnoldi(monkeypatch, unchecked):
    chain, streamed = random_attention(9), AttentionTransition(*queries_and_keys(9, 4), 0.5, memory=0)
    for exact, squared, chosen in ((9, 9, Eigvals), (8, 9, Squaring), (8, 8, Arnoldi)):
        monkeypatch.setitem(spectrum.EIGVALS_TOKENS, "cpu", exact)
        monkeypatch.setitem(spectrum.SQUARING_TOKENS, "cpu", squared)
        assert isinstance(spectrum.spectrum_solver(as_operator(chain), LENIENT), chosen)
        assert spectrum.spectrum_solver(streamed, LENIENT) is LENIENT
        expected = by_eigvals(chain)
        torch.testing.assert_close(solve_second_eigenvalue(chain).value, expected, rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="solver: got 'power', expected 'auto', Arnoldi"):
        solve_second_eigenvalue(chain, "power")


@pytest.mark.parametrize("name", ["sharp", "metastable", "diffusion"])
def test_scipy_agrees(name):
    matrix = CHAINS[name]
    values = scipy.sparse.linalg.eigs(matrix.numpy(), k=2, return_eigenvectors=False, tol=1e-10)
    result = solve_second_eigenvalue(matrix, Arnoldi(tol=1e-8))
    assert float(result.value) == pytest.approx(sorted(abs(values))[0], rel=1e-6)


def test_a_few_bases_are_enough_where_there_is_a_gap():
    result = solve_second_eigenvalue(CHAINS["metastable"], Arnoldi())
    assert result.steps <= 64
    assert solve_second_eigenvalue(CHAINS["metastable"], Arnoldi(basis=12, keep=3)).steps <= 64


@pytest.mark.parametrize("n", [64, 120])
def test_no_gap_at_all_is_told(n):
    """Every eigenvalue of a lazy cycle has the second modulus."""
    lazy = 0.5 * cycle(n) + 0.5 / n
    result = solve_second_eigenvalue(lazy, LENIENT)
    assert not result.converged and result.residual > 1e-4
    assert abs(result.value - 0.5) <= 0.5e-2


def test_not_converging_raises_and_says_what_to_do():
    with pytest.raises(ConvergenceError, match=r"1 of 1 chains did not reach tol=0.0001 in 32 .*noise"):
        solve_second_eigenvalue(cycle(80), Arnoldi(max_steps=32))


@pytest.mark.parametrize("matrix", [torch.eye(90), torch.block_diag(*[birth_death(0.3, 0.1)] * 45)])
def test_many_copies_of_one(matrix):
    result = solve_second_eigenvalue(matrix.double(), Arnoldi())
    assert result.converged
    torch.testing.assert_close(result.value, torch.tensor(1.0, dtype=torch.float64))


def test_chains_of_a_batch_do_not_change_each_other():
    stack = torch.stack([CHAINS["sharper"], CHAINS["metastable"]])
    both = solve_second_eigenvalue(stack, Arnoldi())
    for i, chain in enumerate(stack):
        alone = solve_second_eigenvalue(chain, Arnoldi())
        assert both.steps[i] == alone.steps
        torch.testing.assert_close(both.value[i], alone.value)
    assert both.steps[0] > both.steps[1]


@pytest.mark.parametrize("memory", [0, 10**9])
def test_from_queries_and_keys(memory):
    q, k = queries_and_keys(3, 150, 8)
    operator = AttentionTransition(q, k, 1.5, memory=memory)
    exact = by_eigvals(softmax(q, k, 1.5))
    torch.testing.assert_close(solve_second_eigenvalue(operator, Arnoldi()).value, exact, rtol=1e-3, atol=0)
    mixture = MixtureTransition(operator, torch.ones(3))
    exact = by_eigvals(softmax(q, k, 1.5).mean(0))
    torch.testing.assert_close(solve_second_eigenvalue(mixture, Arnoldi()).value, exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0}, "tol: got 0.0"),
        ({"keep": 0}, "keep: got 0 for a basis of 32"),
        ({"keep": 16}, "keep: got 16"),
        ({"max_steps": 31}, "max_steps: got 31, expected at least the basis of 32"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Arnoldi(**options)
