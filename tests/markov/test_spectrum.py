import pytest
import torch

from tokenrank_guidance.markov import (
    Arnoldi,
    Eigvals,
    MixtureTransition,
    Squaring,
    as_operator,
    lambda2_head_weights,
    second_eigenvalue,
)

from .chains import TOY, birth_death, cycle, random_attention


@pytest.fixture(params=[Arnoldi(tol=1e-11), Eigvals()], ids=["arnoldi", "eigvals"])
def exact(request):
    """Solvers that must agree to the last digits in float64."""
    return request.param


@pytest.fixture(params=[Arnoldi(), Eigvals(), Squaring()], ids=["arnoldi", "eigvals", "squaring"])
def solver(request):
    return request.param


@pytest.mark.parametrize("n", [2, 5, 33])
@pytest.mark.parametrize("seed", range(3))
def test_undamped_from_the_damped_spectrum(n, seed, exact):
    """A damped chain has the eigenvalues 1 and d * lambda_k: an oracle that does not sort P's own."""
    matrix = random_attention(n, seed=seed, sharpness=3.0)
    google = 0.5 * matrix + 0.5 / n
    values = torch.linalg.eigvals(google)
    others = values[(values - 1).abs() > 1e-6].abs()
    assert len(others) == n - 1
    torch.testing.assert_close(second_eigenvalue(matrix, exact), others.max() / 0.5, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("up", "down"), [(0.3, 0.1), (0.9, 0.8), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0)])
def test_two_states_in_closed_form(up, down, solver):
    expected = torch.tensor(abs(1 - up - down), dtype=torch.float64)
    torch.testing.assert_close(second_eigenvalue(birth_death(up, down), solver), expected, atol=1e-12, rtol=0)


def test_a_complex_pair_counts_by_its_modulus(solver):
    lazy = 0.5 * cycle(3) + 0.5 / 3
    assert not torch.linalg.eigvals(lazy).imag.allclose(torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(second_eigenvalue(lazy, solver), torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "matrix", [cycle(4), torch.eye(3), torch.block_diag(TOY, TOY)], ids=["periodic", "eye", "blocks"]
)
def test_a_periodic_or_reducible_chain_has_one_and_no_more(matrix, dtype, solver):
    value = second_eigenvalue(matrix.to(dtype), solver)
    assert value <= 1
    torch.testing.assert_close(value, torch.tensor(1, dtype=dtype), atol=1e-6, rtol=0)


def test_one_token_and_rank_one(solver):
    assert torch.equal(second_eigenvalue(torch.ones(2, 3, 1, 1), solver), torch.zeros(2, 3))
    assert second_eigenvalue(torch.full((5, 5), 0.2), solver) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_batched(dtype, solver):
    matrix = random_attention(2, 3, 8, dtype=dtype)
    values = second_eigenvalue(matrix, solver)
    assert values.shape == (2, 3)
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(values[i, j], second_eigenvalue(matrix[i, j]), rtol=1e-4, atol=0)


def test_of_a_mixture_is_of_the_mixed_matrix():
    heads = random_attention(3, 6)
    mixture = MixtureTransition(as_operator(heads), torch.ones(3))
    torch.testing.assert_close(second_eigenvalue(mixture), second_eigenvalue(heads.mean(0)))


def test_weights_follow_lambda2():
    heads = torch.stack([birth_death(0.1, 0.1), birth_death(0.4, 0.4), birth_death(0.5, 0.5)])
    expected = torch.tensor([0.8, 0.2, 0.0], dtype=torch.float64)
    torch.testing.assert_close(lambda2_head_weights(heads), expected, atol=1e-12, rtol=0)


def test_weights_are_per_image():
    matrix = random_attention(2, 3, 8)
    values = second_eigenvalue(matrix)
    torch.testing.assert_close(lambda2_head_weights(matrix), values / values.sum(1, keepdim=True))


def test_weights_are_uniform_where_no_head_has_structure():
    matrix = torch.ones(2, 4, 1, 1)
    assert torch.equal(lambda2_head_weights(matrix), torch.full((2, 4), 0.25))


def test_weights_need_a_head_axis():
    with pytest.raises(ValueError, match=r"chain of shape \(5, 5\) has no head axis"):
        lambda2_head_weights(TOY)
