"""As many chains at a time as may hold their matrices: the same results, in the memory that is given."""

import numpy
import pytest
import torch

from tests.markov.test_attention import queries_and_keys, softmax
from tests.markov.test_memory import peak_mib
from tokenrank_guidance import memory
from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov import (
    Arnoldi,
    AttentionTransition,
    Direct,
    Eigvals,
    MinimalResidual,
    Squaring,
    absorption,
    lambda2_head_weights,
    multi_bounce,
    second_eigenvalue,
    solve_second_eigenvalue,
    stationary_distribution,
    tokenrank,
)
from tokenrank_guidance.markov.products import HeldProducts

N, HEADS, SCALE = 12, 5, 0.5
MATRIX = N * N * 8  # bytes, in float64
ROOMS = [1, 2, 3, HEADS - 1]
BATCHES = [(HEADS,), (2, HEADS), (1, 3, HEADS)]


def chains(*batch, room, mask=None):
    q, k = queries_and_keys(*batch, N, 4)
    return AttentionTransition(q, k, SCALE, mask, memory=room * MATRIX), softmax(q, k, SCALE, mask).numpy()


def fixed_point(matrix, v, damping=0.99):
    """By numpy, of one chain."""
    return numpy.linalg.solve(numpy.eye(N) - damping * matrix.T, (1 - damping) * v / v.sum())


def each(matrices, work):
    """`work` of every matrix of a batch, by a loop."""
    stack = [work(matrix) for matrix in matrices.reshape(-1, N, N)]
    return torch.from_numpy(numpy.stack(stack)).unflatten(0, matrices.shape[:-2])


@pytest.fixture
def held(monkeypatch):
    """How many matrices each holding of them had."""
    counts = []
    init = HeldProducts.__init__
    monkeypatch.setattr(
        HeldProducts, "__init__", lambda self, made: counts.append(len(made)) or init(self, made)
    )
    return counts


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("batch", BATCHES)
def test_ranks_come_from_matrices_of_a_few_chains_at_a_time(batch, room, held):
    operator, matrices = chains(*batch, room=room)
    found = stationary_distribution(operator, solver=MinimalResidual(tol=1e-12))
    expected = each(matrices, lambda matrix: fixed_point(matrix, numpy.ones(N)))
    torch.testing.assert_close(found.value, expected, rtol=1e-8, atol=1e-12)
    assert found.converged.shape == found.steps.shape == found.residual.shape == batch
    assert held == [min(room, matrices[..., 0, 0].size - first) for first in range(0, sum(held), room)]
    assert sum(held) == matrices[..., 0, 0].size, "each chain's matrix is made once"


def test_matrices_that_are_given_are_taken_a_cache_of_them_at_a_time(monkeypatch):
    monkeypatch.setattr(memory, "CACHED_BYTES", 2 * MATRIX)
    sizes = []
    solve = MinimalResidual.solve
    monkeypatch.setattr(
        MinimalResidual,
        "solve",
        lambda self, chain, *rest: sizes.append(chain.shape) or solve(self, chain, *rest),
    )
    _, matrices = chains(HEADS, room=1)
    found = stationary_distribution(torch.from_numpy(matrices), solver=MinimalResidual(tol=1e-12)).value
    expected = each(matrices, lambda matrix: fixed_point(matrix, numpy.ones(N)))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    assert sizes == [(2, N, N), (2, N, N), (1, N, N)]


@pytest.mark.parametrize(
    ("mib", "memory_mib", "on_a_cpu", "on_a_gpu"),
    [(1, 128, 8, 128), (3, 128, 2, 42), (81, 128, 1, 1), (81, 2048, 1, 25), (129, 128, 0, 0), (1, 0, 0, 0)],
)
def test_how_many_chains_at_a_time(mib, memory_mib, on_a_cpu, on_a_gpu):
    for device, expected in (("cpu", on_a_cpu), ("cuda", on_a_gpu)):
        found = memory.chains_at_a_time(mib * 2**20, memory_mib * 2**20, torch.device(device))
        assert found == expected


@pytest.mark.parametrize("solver", [Direct(tol=1e-12), MinimalResidual(tol=1e-12)])
@pytest.mark.parametrize("shape", [(N,), (HEADS, N), (3, 1, N), (3, HEADS, N)])
def test_personalisation_and_start_go_to_their_own_chains(shape, solver):
    operator, matrices = chains(HEADS, room=2)
    g = torch.Generator().manual_seed(1)
    v, start = (torch.rand(*shape, generator=g, dtype=torch.float64) + 0.1 for _ in range(2))
    found = stationary_distribution(operator, personalization=v, start=start, solver=solver).value
    wide = v.expand(*(shape[:-2] if len(shape) == 3 else ()), HEADS, N).numpy()
    for index in numpy.ndindex(wide.shape[:-1]):
        expected = fixed_point(matrices[index[-1]], wide[index])
        torch.testing.assert_close(found[index].numpy(), expected, rtol=1e-8, atol=1e-12)


def test_small_chains_that_fit_in_parts_alone_are_factored(held):
    operator, _ = chains(HEADS, room=2)
    assert stationary_distribution(operator).steps.tolist() == [0] * HEADS
    assert held == [2, 2, 1]


@pytest.mark.parametrize("solver", [Arnoldi(tol=1e-9), Eigvals(), Squaring(24), "auto"])
def test_second_eigenvalues(solver):
    operator, matrices = chains(2, HEADS, room=3)
    expected = each(matrices, lambda matrix: numpy.sort(abs(numpy.linalg.eigvals(matrix)))[-2])
    torch.testing.assert_close(second_eigenvalue(operator, solver), expected, rtol=1e-4, atol=0)
    moduli = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(lambda2_head_weights(operator), moduli, rtol=1e-3, atol=0)


@pytest.mark.parametrize("direction", ["outgoing", "incoming"])
@pytest.mark.parametrize("lead", [(), (4,)])
def test_bounces(direction, lead, held):
    operator, matrices = chains(2, HEADS, room=3)
    start = torch.rand(*lead, 1, 1, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    steps = matrices if direction == "outgoing" else matrices.swapaxes(-1, -2)
    steps = steps / steps.sum(-1, keepdims=True)
    expected = (start / start.sum(-1, keepdim=True)).numpy()[..., None, :] @ numpy.linalg.matrix_power(
        steps, 3
    )
    found = multi_bounce(operator, start, 3, direction)
    torch.testing.assert_close(found.numpy(), expected.squeeze(-2), rtol=1e-9, atol=1e-12)
    assert held == [3, 3, 3, 1]


def test_walks_that_are_caught(held):
    operator, matrices = chains(HEADS, room=2)
    caught = torch.zeros(N, dtype=torch.float64)
    caught[:2] = torch.tensor([1.0, 0.5])
    among = torch.arange(3, N)
    inside = matrices[:, 3:, 3:]
    leaving = matrices[:, 3:] @ caught.numpy()
    expected = numpy.linalg.solve(numpy.eye(N - 3) - inside, leaving[..., None])[..., 0]
    found = absorption(operator, caught, among, solver=MinimalResidual(tol=1e-12))
    torch.testing.assert_close(found.numpy(), expected, rtol=1e-8, atol=1e-12)
    assert held == [2, 2, 1]


@pytest.mark.parametrize("weighted", [False, True])
def test_mixtures_of_many_images_are_made_image_by_image(weighted):
    operator, matrices = chains(4, HEADS, room=2)
    g = torch.Generator().manual_seed(3)
    weights = (
        torch.rand(4, HEADS, generator=g, dtype=torch.float64) if weighted else torch.ones(HEADS).double()
    )
    share = (weights / weights.sum(-1, keepdim=True)).double().expand(4, HEADS).numpy()
    mixed = numpy.einsum("bh,bhij->bij", share, matrices)
    expected = torch.from_numpy(numpy.stack([fixed_point(one, numpy.ones(N)) for one in mixed]))
    torch.testing.assert_close(tokenrank(operator, head_weights=weights), expected, rtol=1e-4, atol=1e-7)
    picked = operator.mix(weights).select(torch.tensor([[3, 0]]))
    torch.testing.assert_close(picked.to_dense().numpy(), mixed[None, [3, 0]], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("own", [(1, 1), (HEADS, N), (1, N)])
def test_each_chain_keeps_its_mask(own):
    g = torch.Generator().manual_seed(4)
    mask = torch.rand(*own, N, generator=g) > 0.4
    mask[..., 0] = True
    operator, matrices = chains(HEADS, room=2, mask=mask)
    expected = each(matrices, lambda matrix: fixed_point(matrix, numpy.ones(N)))
    torch.testing.assert_close(tokenrank(operator, head_weights=None), expected, rtol=1e-4, atol=1e-7)


def test_a_derivative_is_that_of_all_chains_at_once():
    q, k = (side.requires_grad_() for side in queries_and_keys(HEADS, N, 4))
    grads = []
    for room in (0, 2, HEADS):
        value = tokenrank(AttentionTransition(q, k, SCALE, memory=room * MATRIX), head_weights=None)
        grads.append(torch.autograd.grad(value.square().sum(), (q, k)))
    for one in grads[1:]:
        torch.testing.assert_close(one, grads[0], rtol=1e-4, atol=1e-8)


def test_a_failure_counts_the_chains_of_every_part():
    operator, _ = chains(HEADS, room=2)
    with pytest.raises(ConvergenceError, match=f"{HEADS} of {HEADS} chains did not reach"):
        stationary_distribution(operator, solver=MinimalResidual(tol=1e-12, max_steps=1))
    with pytest.raises(ConvergenceError, match=f"{HEADS} of {HEADS} chains did not reach"):
        solve_second_eigenvalue(operator, Arnoldi(tol=1e-15, max_steps=3, basis=3, keep=1))


@pytest.mark.extended
@pytest.mark.parametrize("heads", [4, 16])
def test_memory_does_not_grow_with_heads(heads):
    """Heads of 2,048 tokens, whose matrix is 16 MiB each: one at a time."""
    peak = peak_mib(
        "from tokenrank_guidance.markov import AttentionTransition, tokenrank",
        f"q, k = inputs({heads}, 2048, 32)\n"
        "tokenrank(AttentionTransition(q[:, :64], k[:, :64], 0.2), head_weights=None)",
        "tokenrank(AttentionTransition(q, k, 0.2), head_weights=None)",
    )
    assert peak <= 16 + 24
