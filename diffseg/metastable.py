"""How many segments the chain itself has, and the threshold that gives as many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.kl import symmetric_kl
from diffseg.merge import average, merge_proposals, neighbours
from tokenrank_guidance.markov.precision import full_precision

MOST_REGIONS = 32
SPARE = 8  # directions beyond those asked for, without which the last would converge slowly
ROUNDS = 12
MEMORY = math.exp(-1)  # λ of a mode that decays to 1/e in one step
CANDIDATES = 64
SMALLEST = 1e-3  # nats


@dataclass(frozen=True, eq=False)
class Merged:
    """Segments, and the threshold that every merge used."""

    masks: Float[Tensor, "segments n"]
    threshold: float


@torch.no_grad()
def leading_eigenvalues(chain: Float[Tensor, "n n"], count: int = MOST_REGIONS) -> Float[Tensor, " count"]:
    """Real parts of the leading eigenvalues of a row-stochastic matrix, from 1 downwards.

    Orthogonal iteration with `ROUNDS` products of count + `SPARE` vectors, one of them the constant, and the
    eigenvalues of the chain projected onto them (Rayleigh-Ritz). Multiple eigenvalues are found as often as
    they occur. An eigenvalue below about half of the leading ones is approximate; it is not what is counted.
    """
    n = len(chain)
    size = min(n, count + SPARE)
    start = torch.randn(n, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start[:, 0] = 1.0
    basis = torch.linalg.qr(start).Q.to(chain)
    with full_precision(chain.device):
        for _ in range(ROUNDS):
            basis = torch.linalg.qr(chain @ basis).Q
        small = basis.mT @ (chain @ basis)
    real = torch.linalg.eigvals(small.to("cpu", torch.float64)).real
    return real.sort(descending=True).values[: min(n, count)]


def count_regions(chain: Float[Tensor, "n n"]) -> int:
    """Number of metastable regions: modes of the chain that outlive one step, at most `MOST_REGIONS`.

    The mode of eigenvalue λ decays as λᵗ = exp(−t/T), T = −1/log λ. A region that the walk stays in for
    longer than a step adds a mode with T > 1, so the count is #{λ > 1/e}; λ = 1, the chain as a whole, is the
    first. k uncoupled blocks that mix inside have exactly k; one block that mixes has 1. Source: the count of
    dominant eigenvalues of PCCA (Deuflhard et al. 2000), with the step itself as the time scale that parts
    slow from fast where the spectrum has no gap.
    """
    values = leading_eigenvalues(chain)
    return max(1, int((values > MEMORY).sum()))


def merge_to(
    maps: Float[Tensor, "n n"], anchors: Int[Tensor, " anchors"], merges: int, regions: int
) -> Merged:
    """Merge with the smallest threshold that leaves at most `regions` segments.

    The same τ serves every merge. It is looked for by bisection among `CANDIDATES` thresholds in geometric
    steps from `SMALLEST` to the largest divergence of an anchor and a map.
    """
    divergence = symmetric_kl(maps[anchors], maps)
    largest = max(2 * divergence.max().item(), 2 * SMALLEST)
    candidates = [SMALLEST * (largest / SMALLEST) ** (i / (CANDIDATES - 1)) for i in range(CANDIDATES)]

    def attempt(threshold: float) -> Tensor:
        proposals = average(maps, neighbours(divergence, anchors, threshold))
        return merge_proposals(proposals, [threshold] * (merges - 1))

    return _smallest(candidates, attempt, regions)


def _smallest(candidates: list[float], attempt: Callable[[float], Tensor], regions: int) -> Merged:
    low, high = 0, len(candidates) - 1
    best = Merged(attempt(candidates[high]), candidates[high])
    while low < high:
        middle = (low + high) // 2
        masks = attempt(candidates[middle])
        if len(masks) <= regions:
            high, best = middle, Merged(masks, candidates[middle])
        else:
            low = middle + 1
    return best
