"""What is timed: TokenRank, the second eigenvalue and single passes, by each method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov import (
    HELD_BYTES,
    Arnoldi,
    AttentionTransition,
    DenseTransition,
    PowerIteration,
    solve_second_eigenvalue,
    stationary_distribution,
)

DAMPING, TOL, PUBLISHED_STEPS = 0.99, 1e-6, 200
Heads = Float[Tensor, "heads n dim"]
Outcome = tuple[Tensor | None, int]  # the answer and the number of products with the chain


@dataclass(frozen=True)
class Method:
    """``run(q, k)`` on inputs of up to ``most`` numbers in its maps, beyond which it takes too long."""

    group: str
    run: Callable[[Heads, Heads], Outcome]
    most: float = float("inf")


def maps(q: Heads, k: Heads) -> Float[Tensor, "heads n n"]:
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


def damped(q: Heads, k: Heads) -> Float[Tensor, "heads n n"]:
    return DAMPING * maps(q, k) + (1 - DAMPING) / q.shape[-2]


def iterate(transposed: Float[Tensor, "heads n n"]) -> Outcome:
    x = transposed.new_full((*transposed.shape[:2], 1), 1 / transposed.shape[-1])
    for _ in range(PUBLISHED_STEPS):
        x = transposed @ x
        x = x / x.sum(1, keepdim=True)
    return x.squeeze(-1), PUBLISHED_STEPS


def published(q: Heads, k: Heads) -> Outcome:
    """200 steps over the built, damped, transposed maps of all heads at once, no tolerance."""
    return iterate(damped(q, k).mT.contiguous())


def published_as_view(q: Heads, k: Heads) -> Outcome:
    """The same without the copy that lays the transposed maps out for the product."""
    return iterate(damped(q, k).mT)


def published_by_rows(q: Heads, k: Heads) -> Outcome:
    """The same steps as row vectors, which torch multiplies several times faster: kinder than published."""
    matrix = damped(q, k)
    x = matrix.new_full((matrix.shape[0], 1, matrix.shape[-1]), 1 / matrix.shape[-1])
    for _ in range(PUBLISHED_STEPS):
        x = x @ matrix
        x = x / x.sum(-1, keepdim=True)
    return x.squeeze(1), PUBLISHED_STEPS


def chain(q: Heads, k: Heads, memory: int = HELD_BYTES) -> AttentionTransition:
    return AttentionTransition(q, k, q.shape[-1] ** -0.5, memory=memory)


def even(q: Heads) -> Float[Tensor, " heads"]:
    return torch.ones(q.shape[0], device=q.device)


def rank(operator, solver=None) -> Outcome:
    options = {"solver": solver} if solver else {}
    result = stationary_distribution(operator, damping=DAMPING, **options)
    return result.value, int(result.steps.max())


def networkx_pagerank(q: Heads, k: Heads) -> Outcome:
    import networkx as nx

    graph = nx.from_numpy_array(maps(q, k).mean(0).double().numpy(), create_using=nx.DiGraph)
    ranks = nx.pagerank(graph, alpha=DAMPING, tol=TOL / len(graph))
    return torch.tensor([ranks[i] for i in range(len(graph))]), -1


def eigvals(q: Heads, k: Heads) -> Outcome:
    return torch.linalg.eigvals(maps(q, k)).abs().topk(2, dim=-1).values[..., 1], -1


def scipy_eigs(q: Heads, k: Heads) -> Outcome:
    from scipy.sparse.linalg import LinearOperator, eigs

    moduli, products = [], 0
    for matrix in maps(q, k).numpy():

        def product(x, matrix=matrix):
            nonlocal products
            products += 1
            return matrix @ x

        operator = LinearOperator(matrix.shape, matvec=product, dtype=matrix.dtype)
        values = eigs(operator, k=2, tol=1e-4, return_eigenvectors=False)
        moduli.append(min(abs(values)))
    return torch.tensor(moduli), products // q.shape[0]


def second(operator) -> Outcome:
    result = solve_second_eigenvalue(operator, Arnoldi(raise_on_failure=False))
    return result.value, int(result.steps.max())


def attend(q: Heads, k: Heads) -> Outcome:
    F.scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), k.unsqueeze(0))
    return None, 1


def bounce(q: Heads, k: Heads) -> Outcome:
    """The row normalisers, with the uniform start's bounce on the way, and then one bounce more."""
    operator = chain(q, k, memory=0)
    operator.apply(operator.column_sums)
    return None, 2


def normalise(q: Heads, k: Heads) -> Outcome:
    return chain(q, k, memory=0).column_sums, 1


UP_TO_1024, UP_TO_4096, UP_TO_16384 = 8 * 1024**2, 8 * 4096**2, 16384**2
METHODS = {
    "published loop, as a view": Method("TokenRank", published_as_view, UP_TO_1024),
    "published loop": Method("TokenRank", published, UP_TO_4096),
    "published loop, by rows": Method("TokenRank", published_by_rows, UP_TO_16384),
    "networkx, mean of heads": Method("TokenRank", networkx_pagerank, UP_TO_1024),
    "DenseTransition, each head": Method(
        "TokenRank", lambda q, k: rank(DenseTransition(maps(q, k))), UP_TO_16384
    ),
    "DenseTransition, power, mean": Method(
        "TokenRank", lambda q, k: rank(DenseTransition(maps(q, k)).mix(even(q)), PowerIteration()), UP_TO_4096
    ),
    "Q and K only, each head": Method("TokenRank", lambda q, k: rank(chain(q, k, memory=0)), UP_TO_4096),
    "Q and K only, mean": Method(
        "TokenRank", lambda q, k: rank(chain(q, k, memory=0).mix(even(q))), UP_TO_4096
    ),
    "ours, each head": Method("TokenRank", lambda q, k: rank(chain(q, k))),
    "ours, power, mean": Method(
        "TokenRank", lambda q, k: rank(chain(q, k).mix(even(q)), PowerIteration()), UP_TO_4096
    ),
    "ours, mean": Method("TokenRank", lambda q, k: rank(chain(q, k).mix(even(q))), UP_TO_4096),
    "eigvals": Method("second eigenvalue", eigvals, UP_TO_1024),
    "scipy eigs": Method("second eigenvalue", scipy_eigs, UP_TO_4096),
    "Q and K only, Arnoldi": Method(
        "second eigenvalue", lambda q, k: second(chain(q, k, memory=0)), UP_TO_1024
    ),
    "ours, Arnoldi": Method("second eigenvalue", lambda q, k: second(chain(q, k))),
    "attention (SDPA)": Method("passes", attend),
    "row normalisers": Method("passes", normalise),
    "row normalisers and a bounce": Method("passes", bounce),
}
BASELINE = {"TokenRank": "published loop", "second eigenvalue": "eigvals", "passes": "attention (SDPA)"}
