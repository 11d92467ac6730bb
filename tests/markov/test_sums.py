"""One chain of several, its teleport in it, turned round, and walks that are caught, against matrices."""

import networkx as nx
import pytest
import torch

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov import (
    AttentionTransition,
    DampedTransition,
    DenseTransition,
    IncomingTransition,
    MinimalResidual,
    SumTransition,
    absorption,
    as_operator,
)

from .chains import incoming, random_attention, random_weights
from .contract import OperatorContract
from .test_attention import queries_and_keys


class TestSum(OperatorContract):
    def make(self):
        layers, weights = random_attention(3, 2, 6), random_weights(3)
        chains = [DenseTransition(layer) for layer in layers]
        return SumTransition(chains, 2 * weights), torch.einsum(
            "k,kbij->bij", weights / weights.sum(), layers
        )


class TestSumOfOtherKinds(OperatorContract):
    tolerance = 3e-6

    def make(self):
        q, k = queries_and_keys(7, 4, dtype=torch.float32)
        chain, other = AttentionTransition(q, k, 0.5, memory=0), random_attention(7)
        matrix = 0.25 * (q.double() @ k.double().T * 0.5).softmax(-1) + 0.75 * other
        return SumTransition([chain, DenseTransition(other)], torch.tensor([1.0, 3.0])), matrix


class TestDamped(OperatorContract):
    def make(self):
        heads = random_attention(2, 6)
        return DampedTransition(DenseTransition(heads), 0.9), 0.9 * heads + 0.1 / 6


class TestIncoming(OperatorContract):
    def make(self):
        heads = random_attention(2, 6)
        return IncomingTransition(DenseTransition(heads)), incoming(heads)


def test_a_token_that_nobody_attends_to_stays():
    matrix = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    chain = IncomingTransition(DenseTransition(matrix))
    torch.testing.assert_close(
        chain.to_dense(), torch.tensor([[1.0, 0, 0], [0.5, 0, 0.5], [0, 1, 0]]).double()
    )
    assert chain.apply_transpose(torch.tensor([3.0, 1, 1]))[0] == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SumTransition([], torch.ones(0)), "operators: got shapes none"),
        (
            lambda: SumTransition([as_operator(torch.eye(n)) for n in (2, 3)], torch.ones(2)),
            r"got shapes \[\(2, 2\), \(3, 3\)\]",
        ),
        (lambda: SumTransition([as_operator(torch.eye(2))], torch.ones(2)), r"weights: shape \(2,\)"),
        (lambda: SumTransition([as_operator(torch.eye(2))], torch.zeros(1)), "weights: all zero"),
        (lambda: DampedTransition(as_operator(torch.eye(2)), 0.0), "damping: got 0.0"),
    ],
)
def test_what_is_no_chain_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("survival", [0.5, 1.0])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_absorption_is_the_dense_solution(survival, batch):
    matrix, among = random_attention(*batch, 8), torch.tensor([6, 2, 3, 5])
    targets = torch.zeros(8, dtype=torch.float64)
    targets[torch.tensor([0, 7])] = torch.tensor([1.0, 0.25], dtype=torch.float64)
    block = matrix[..., among[:, None], among]
    once = matrix[..., among, :] @ targets
    expected = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - survival * block, once)
    found = absorption(matrix, targets, among, survival, MinimalResidual(tol=1e-13))
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


def test_absorption_is_what_walks_do():
    """Counted over walks of networkx's weighted graph, step by step."""
    matrix = random_attention(6, seed=3)
    graph = nx.from_numpy_array(matrix.numpy(), create_using=nx.DiGraph)
    chances = {0: 1.0, 1: 0.0, **dict.fromkeys(range(2, 6), 0.5)}
    for _ in range(400):  # the harmonic function: each node among them the mean over where it attends
        chances |= {
            node: sum(edge["weight"] * chances[end] for end, edge in graph[node].items())
            for node in range(2, 6)
        }
    caught = torch.eye(6, dtype=torch.float64)[0]
    found = absorption(matrix, caught, torch.arange(2, 6), solver=MinimalResidual(tol=1e-13))
    assert found.tolist() == pytest.approx([chances[node] for node in range(2, 6)], abs=1e-10)


def test_a_set_that_no_walk_leaves_is_said():
    matrix, caught = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[0]
    matrix[1] = torch.tensor([0.5, 0.5, 0.0, 0.0])
    assert absorption(matrix, caught, torch.tensor([1, 2])).tolist() == pytest.approx([1.0, 0.0])
    pair = torch.tensor([[1.0, 0, 0], [1e-9, 0, 1], [0, 1, 0]], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match="lower survival"):
        absorption(
            pair,
            torch.tensor([1.0, 0, 0]),
            torch.tensor([1, 2]),
            solver=MinimalResidual(max_steps=2, tol=1e-12),
        )


@pytest.mark.parametrize(
    ("targets", "survival", "message"),
    [
        (torch.ones(3), 1.0, "among the tokens that are walked over"),
        (torch.ones(2), 1.0, r"targets: shape \(2,\)"),
        (torch.tensor([2.0, 0, 0]), 1.0, "of 0 to 1"),
        (torch.tensor([1.0, 0, 0]), 0.0, "survival: got 0.0"),
    ],
)
def test_absorption_refuses(targets, survival, message):
    with pytest.raises(ValueError, match=message):
        absorption(torch.eye(3), targets, torch.tensor([1]), survival)
