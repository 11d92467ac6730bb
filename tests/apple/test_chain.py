"""The chain on a device without float64 gives what it gives on the CPU."""

import pytest
import torch

from tokenrank_guidance.markov import (
    Arnoldi,
    AttentionTransition,
    DampedTransition,
    DenseTransition,
    Direct,
    Eigvals,
    FactoredTransition,
    IncomingTransition,
    MinimalResidual,
    PowerIteration,
    Squaring,
    absorption,
    column_sum,
    deferred_checks,
    lambda2_head_weights,
    multi_bounce,
    second_eigenvalue,
    stationary_distribution,
    tokenrank,
)
from tokenrank_guidance.markov.precision import float64_on_cpu, has_float64

pytestmark = pytest.mark.apple
N = 16


def caught(device):
    return (torch.arange(N) < 2).float().to(device)


def settled(chain):
    with deferred_checks() as checks:
        ranks = tokenrank(chain)
    checks.fetch()
    checks.settle()
    return ranks


WORK = {
    "step": lambda chain: chain.apply(torch.ones(N, device=chain.device)),
    "step back": lambda chain: chain.apply_transpose(torch.ones(N, device=chain.device)),
    "ranks": tokenrank,
    "ranks of each head": lambda chain: tokenrank(chain, head_weights=None),
    "ranks, heads by λ2": lambda chain: tokenrank(chain, head_weights="lambda2"),
    "ranks, checked later": settled,
    "ranks of the matrix": lambda chain: tokenrank(DenseTransition(chain.to_dense())),
    "ranks of some tokens": lambda chain: tokenrank(chain.restrict(torch.arange(4))),
    "ranks, damped": lambda chain: tokenrank(DampedTransition(chain, 0.9)),
    "ranks, incoming": lambda chain: tokenrank(IncomingTransition(chain)),
    "by one factorisation": lambda chain: stationary_distribution(chain, solver=Direct()).value,
    "by the chain's steps": lambda chain: stationary_distribution(chain, solver=PowerIteration()).value,
    "by residuals": lambda chain: stationary_distribution(chain, solver=MinimalResidual()).value,
    "λ2": second_eigenvalue,
    "λ2 by Arnoldi": lambda chain: second_eigenvalue(chain, Arnoldi()),
    "λ2 by squaring": lambda chain: second_eigenvalue(chain, Squaring()),
    "λ2 by LAPACK": lambda chain: second_eigenvalue(chain, Eigvals()),
    "weights by λ2": lambda2_head_weights,
    "bounces": lambda chain: multi_bounce(chain, 3, 4),
    "bounces against attention": lambda chain: multi_bounce(chain, 3, 4, "incoming"),
    "attention received": column_sum,
    "absorption": lambda chain: absorption(chain, caught(chain.device), torch.arange(3, N)),
}


def sides(seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, N, 8, generator=g) for _ in range(2)]


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("masked", [False, True])
def test_the_same_as_on_a_cpu(there, name, masked):
    mask = torch.ones(N, N, dtype=torch.bool).tril(4) if masked else None
    here = AttentionTransition(*sides(), 0.3, mask)
    chain = AttentionTransition(
        *(side.to(there) for side in sides()), 0.3, None if mask is None else mask.to(there)
    )
    found = WORK[name](chain)
    assert found.device == there
    torch.testing.assert_close(found.cpu(), WORK[name](here), rtol=1e-4, atol=1e-6)


def test_saturated_logits_stay_in_float32(there):
    q, k = sides()
    found = tokenrank(AttentionTransition((40 * q).to(there), (40 * k).to(there), 1.0))
    torch.testing.assert_close(
        found.cpu(), tokenrank(AttentionTransition(40 * q, 40 * k, 1.0)), rtol=5e-3, atol=1e-5
    )


def test_linear_attention(there):
    a, b = (side.abs() for side in sides())
    found = tokenrank(FactoredTransition(a.to(there), b.to(there)))
    torch.testing.assert_close(found.cpu(), tokenrank(FactoredTransition(a, b)), rtol=1e-4, atol=1e-6)


def test_where_float64_is(there):
    assert not has_float64(there) and has_float64(torch.device("cpu"))
    with pytest.raises(TypeError, match="float64"):
        torch.ones(2, device=there).double()
    with pytest.raises(TypeError, match="float64"):
        torch.ones(2, device=there).to("cpu", torch.float64)
    assert float64_on_cpu(torch.ones(2, device=there)).tolist() == [1, 1]
