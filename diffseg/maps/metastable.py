"""How many segments the chain itself has, and the threshold that gives as many."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.maps.merge import average, merge_proposals, neighbours
from tokenrank_guidance.markov.precision import capable, float64_on_cpu, full_precision

MOST_REGIONS = 32
SPARE = 8  # directions beyond those asked for, without which the last would converge slowly
CHECKED = (4, 7, 10, 13)  # products; each look at the eigenvalues waits for the device
MARGIN = 4  # residuals between an eigenvalue and the line: one residual bounds the error of a normal chain
MEMORY = math.exp(-1)  # λ of a mode that decays to 1/e in one step
CANDIDATES = 64
LAST = CANDIDATES - 1
SMALLEST = 1e-3  # nats
POOLED = 8  # keys in a row, taken as one where the threshold is only guessed


@dataclass(frozen=True, eq=False)
class Merged:
    """Segments, and the threshold that every merge used."""

    masks: Float[Tensor, "segments n"]
    threshold: float


@dataclass(frozen=True, eq=False)
class Ritz:
    """Real parts of approximate eigenvalues, from 1 downwards, and ‖P y − λ y‖ of their unit vectors y."""

    values: Float[Tensor, " count"]
    residuals: Float[Tensor, " count"]

    @property
    def settled(self) -> bool:
        """Whether no eigenvalue is so near to 1/e that further products might carry it across."""
        return bool(((self.values - MEMORY).abs() > MARGIN * self.residuals).all())


@torch.no_grad()
def count_regions(chain: Float[Tensor, "n n"]) -> int:
    """Number of metastable regions: modes of the chain that outlive one step, at most `MOST_REGIONS`.

    The mode of eigenvalue λ decays as λᵗ = exp(−t/T), T = −1/log λ. A region that the walk stays in for
    longer than a step adds a mode with T > 1, so the count is #{λ > 1/e}; λ = 1, the chain as a whole, is the
    first. k uncoupled blocks that mix inside have exactly k; one block that mixes has 1. Source: the count of
    dominant eigenvalues of PCCA (Deuflhard et al. 2000), with the step itself as the time scale that parts
    slow from fast where the spectrum has no gap.
    """
    count = 1
    for ritz in leading_eigenvalues(chain):
        count = int((ritz.values > MEMORY).sum())
        if ritz.settled:
            break
    return min(max(1, count), MOST_REGIONS)


@torch.no_grad()
def leading_eigenvalues(chain: Float[Tensor, "n n"]) -> Iterator[Ritz]:
    """The leading eigenvalues of a row-stochastic matrix, better with each number of products in `CHECKED`.

    Orthogonal iteration of `MOST_REGIONS` + `SPARE` vectors, one of them the constant, and the eigenvalues of
    the chain projected onto them (Rayleigh-Ritz). Multiple eigenvalues are found as often as they occur. One
    below about half of the leading ones is approximate to the end; it is not what is counted.
    """
    n = len(chain)
    size = min(n, MOST_REGIONS + SPARE)
    start = torch.randn(n, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start[:, 0] = 1.0
    basis = torch.linalg.qr(start).Q.to(chain)
    for product in range(1, CHECKED[-1] + 1):
        with full_precision(chain.device):
            image = chain @ basis
        if product in CHECKED:
            yield _ritz(basis, image)
        basis = torch.linalg.qr(image.to(capable(chain.device))).Q.to(chain)


def _ritz(basis: Float[Tensor, "n size"], image: Float[Tensor, "n size"]) -> Ritz:
    """From an orthonormal basis Q and P Q: of a vector y = Q v, P y − λ y is (1 − Q Qᵀ) P Q v."""
    with full_precision(basis.device):
        small = basis.mT @ image
        outside = image - basis @ small
        squares = outside.mT @ outside
    values, vectors = torch.linalg.eig(float64_on_cpu(small))
    along = float64_on_cpu(squares).to(vectors.dtype) @ vectors
    residuals = (vectors.conj() * along).sum(0).real.clamp_min(0).sqrt()
    order = values.real.argsort(descending=True)
    return Ritz(values.real[order], residuals[order])


def merge_to(
    maps: Float[Tensor, "n n"],
    divergence: Float[Tensor, "anchors n"],
    anchors: Int[Tensor, " anchors"],
    merges: int,
    regions: int,
) -> Merged:
    """Merge with the smallest threshold that leaves at most `regions` segments.

    The same τ serves every merge. It is looked for among `CANDIDATES` in geometric steps from `SMALLEST` to
    twice the largest `divergence` of an anchor and a map. Bisection over pooled keys guesses it, then whole
    maps are merged to where the number of segments crosses `regions`: no more at τ, and more one step below.
    That is the smallest wherever a larger τ never leaves more segments; else it is a crossing by the guess.
    """
    largest = max(2 * divergence.max().item(), 2 * SMALLEST)
    candidates = [SMALLEST * (largest / SMALLEST) ** (i / LAST) for i in range(CANDIDATES)]

    def segments(values: Float[Tensor, "n keys"], index: int) -> Float[Tensor, "segments keys"]:
        threshold = candidates[index]
        proposals = average(values, neighbours(divergence, anchors, threshold))
        return merge_proposals(proposals, [threshold] * (merges - 1))

    pooled = F.avg_pool2d(maps[None], (1, POOLED), ceil_mode=True, divisor_override=1)[0]
    guess = _first(lambda index: len(segments(pooled, index)) <= regions, 0, LAST)
    whole = cache(partial(segments, maps))
    found = _near(lambda index: len(whole(index)) <= regions, guess)
    return Merged(whole(found), candidates[found])


def _first(fits: Callable[[int], bool], low: int, high: int) -> int:
    """By bisection, the first index from `low` on that fits; `high` where none below it does."""
    return bisect_left(range(high), True, low, high, key=fits)


def _near(fits: Callable[[int], bool], guess: int) -> int:
    """The same among all candidates, from a guess that brackets, twice as wide each time, start at.

    The last candidate is taken to fit: it merges everything into one segment, if anything is merged at all.
    """
    low, high = guess - 1, guess
    while high < LAST and not fits(high):
        low, high = high, min(high + max(1, high - guess), LAST)
    while low >= 0 and fits(low):
        low, high = max(low - (guess - low), -1), low
    return _first(fits, low + 1, high)
