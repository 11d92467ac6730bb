"""Chains of linear attention against their matrices, and what dangling rows do against networkx."""

import networkx as nx
import pytest
import torch
from torch.autograd import gradcheck

from tokenrank_guidance.markov import (
    Arnoldi,
    FactoredTransition,
    MinimalResidual,
    lambda2_head_weights,
    mix_heads,
    second_eigenvalue,
    stationary_distribution,
    tokenrank,
)

from .chains import random_weights
from .contract import OperatorContract

TIGHT = MinimalResidual(tol=1e-13)


def factors(*shape, dtype=torch.float64, seed=0):
    """Positive, so that no restriction takes a row's last mass."""
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(*shape, generator=g, dtype=torch.float64).abs() + 1e-3 for _ in range(2))
    return a.to(dtype), b.to(dtype)


def rows(a, b):
    """The chain by its definition, in float64, with even rows for those of zeros."""
    products = a.double() @ b.double().mT
    sums = products.sum(-1, keepdim=True)
    return torch.where(sums > 0, products / sums, 1 / products.shape[-1])


class TestFactored(OperatorContract):
    def make(self):
        a, b = factors(2, 3, 7, 4)
        return FactoredTransition(a, b), rows(a, b)


class TestSingleChain(OperatorContract):
    def make(self):
        a, b = factors(9, 3, seed=1)
        return FactoredTransition(a, b), rows(a, b)


class TestMoreFeaturesThanTokens(OperatorContract):
    def make(self):
        a, b = factors(3, 5, 11, seed=2)
        return FactoredTransition(a, b), rows(a, b)


class TestDanglingRowsAndFeaturesOfNobody(OperatorContract):
    def make(self):
        a, b = factors(2, 7, 4, seed=3)
        a[:, 1] = a[0, 4] = 0
        b[1, :, 2] = 0
        a[1, 5] = torch.tensor([0.0, 0.0, 3.0, 0.0])  # attends to a feature that nobody has
        return FactoredTransition(a, b), rows(a, b)


class TestMixed(OperatorContract):
    def make(self):
        (a, b), weights = factors(2, 3, 7, 4, seed=4), random_weights(2, 3)
        a[0, 1, 3] = 0
        share = (weights / weights.sum(-1, keepdim=True))[..., None, None]
        return FactoredTransition(a, b).mix(weights), (share * rows(a, b)).sum(-3)


class TestRestrictedOnce(OperatorContract):
    def make(self):
        a, b = factors(3, 9, 4, seed=5)
        a[1, 8] = 0
        tokens = torch.tensor([8, 0, 3, 4, 6])
        block = rows(a, b)[..., tokens, :][..., tokens]
        return FactoredTransition(a, b).restrict(tokens), block / block.sum(-1, keepdim=True)


class TestFloat32(OperatorContract):
    tolerance = 3e-6

    def make(self):
        a, b = factors(3, 8, 5, dtype=torch.float32)
        return FactoredTransition(a, b), rows(a, b)


class TestFloat16(OperatorContract):
    tolerance = 3e-6

    def make(self):
        a, b = (1e-3 * side for side in factors(3, 8, 5, dtype=torch.float16))
        return FactoredTransition(a, b), rows(a, b)


class TestBfloat16(OperatorContract):
    tolerance = 3e-6

    def make(self):
        a, b = (1e30 * side for side in factors(3, 8, 5, dtype=torch.bfloat16))
        return FactoredTransition(a, b), rows(a, b)


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_only_proportions_count(size):
    a, b = factors(2, 9, 4)
    torch.testing.assert_close(FactoredTransition(size * a, b * size).to_dense(), rows(a, b))


@pytest.mark.parametrize("damping", [0.5, 0.99])
@pytest.mark.parametrize("personalized", [False, True])
def test_networkx_agrees_where_nodes_dangle(damping, personalized):
    a, b = factors(30, 3, seed=6)
    a[[2, 17, 29]] = 0
    graph = nx.from_numpy_array((a @ b.mT).numpy(), create_using=nx.DiGraph)
    weights = random_weights(30) if personalized else None
    expected = nx.pagerank(
        graph,
        alpha=damping,
        personalization=None if weights is None else dict(enumerate(weights.tolist())),
        dangling=None if weights is None else dict.fromkeys(range(30), 1.0),
        tol=1e-14,
        max_iter=10_000,
    )
    chain = FactoredTransition(a, b)
    rank = stationary_distribution(chain, damping=damping, personalization=weights, solver=TIGHT).value
    torch.testing.assert_close(
        rank, torch.tensor([expected[i] for i in range(30)]).double(), atol=1e-8, rtol=0
    )


@pytest.mark.parametrize("solver", ["auto", Arnoldi(), None])
@pytest.mark.parametrize("n", [4, 40])
def test_second_eigenvalue_is_the_matrices(n, solver):
    a, b = factors(2, 3, n, 4, seed=7)
    a[0, 0, 1] = 0
    chain = FactoredTransition(a, b)
    moduli = torch.linalg.eigvals(rows(a, b)).abs().sort(-1, descending=True).values
    found = lambda2_head_weights(chain) if solver is None else second_eigenvalue(chain, solver)
    expected = moduli[..., 1]
    expected = expected / expected.sum(-1, keepdim=True) if solver is None else expected
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-2 if solver is None else 1e-5)


def test_its_condensed_chain_is_small():
    chain = FactoredTransition(*factors(2, 50, 4))
    assert chain.condensed().shape == (2, 5, 5)
    assert chain.select(torch.tensor([1])).condensed().shape == (1, 5, 5)
    few = FactoredTransition(*factors(2, 4, 50))
    assert few.condensed() is few


def test_one_token():
    chain = FactoredTransition(torch.ones(1, 1, 3), torch.ones(1, 1, 3))
    assert tokenrank(chain).item() == 1
    assert second_eigenvalue(chain).item() == 0


@pytest.mark.parametrize("head_weights", ["mean", None])
def test_derivatives(head_weights):
    def rank(a, b, v):
        chain = mix_heads(FactoredTransition(a.relu(), b.relu()), head_weights)
        return stationary_distribution(chain, damping=0.8, personalization=v, solver=TIGHT).value

    a, b = (side + 0.05 for side in factors(2, 6, 3))
    a[0, 1] = -1.0  # a row of zeros, whose derivative is zero
    wanted = a.requires_grad_(), b.requires_grad_(), random_weights(6).requires_grad_()
    assert gradcheck(rank, wanted)


def test_a_hundred_thousand_tokens_take_no_matrix():
    a, b = factors(100_000, 4, dtype=torch.float32)
    chain = FactoredTransition(a, b)
    rank = tokenrank(chain)
    torch.testing.assert_close(rank.sum(), torch.tensor(1.0))
    torch.testing.assert_close(0.99 * chain.apply(rank) + 0.01 / 100_000, rank, atol=1e-8, rtol=1e-3)


def test_a_row_that_attends_to_dropped_tokens_alone_is_named():
    chain = FactoredTransition(torch.eye(4), torch.eye(4).roll(1, 0))
    with pytest.raises(ValueError, match=r"row \[0\] .* has no mass left"):
        chain.restrict(torch.tensor([0, 2]))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), r"shapes \(3, 2\) and \(4, 2\)"),
        (torch.ones(3), torch.ones(3), r"shapes \(3,\)"),
        (torch.ones(0, 2), torch.ones(0, 2), "at least one token"),
        (torch.ones(3, 2).long(), torch.ones(3, 2).long(), "dtypes torch.int64"),
        (torch.ones(3, 2), torch.ones(3, 2).double(), "expected one floating-point dtype"),
        (-torch.ones(3, 2), torch.ones(3, 2), r"values in \[-1, -1\] .* such as relu\(q\)"),
        (torch.ones(3, 2), torch.full((3, 2), torch.nan), r"\[nan, nan\], expected finite"),
        (torch.full((3, 2), torch.inf), torch.ones(3, 2), r"\[inf, inf\]"),
    ],
)
def test_bad_factors_are_refused(a, b, message, unchecked):
    with pytest.raises(ValueError, match=message):
        FactoredTransition(a, b)
