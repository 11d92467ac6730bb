"""Where merging starts: anchor tokens, spread blindly or chosen by the chain.

`ANCHORS` has the rules that settings and options know by name; torch is there once one is asked for tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor
else:
    torch = LazyModule("torch")

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class AnchorRequest:
    """What an anchor choice is given: the stationary distribution over a grid (row-major) and a count.

    `generator` is for random choices; `count` is at most the number of tokens.
    """

    rank: Float[Tensor, " n"]
    grid: Grid
    count: int
    generator: torch.Generator


AnchorChoice = Callable[[AnchorRequest], "Int[Tensor, ' anchors']"]


def choose_anchors(choice: str | AnchorChoice, request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """Anchor tokens as indices into the grid, in the order in which merging goes through them.

    `choice` is a name in `ANCHORS` or a function of the request. More anchors than tokens means every token,
    except for "reference". Raises ValueError for an unknown name and for what are no distinct tokens.
    """
    from tokenrank_guidance.markov.operator import token_index

    if isinstance(choice, str) and choice not in ANCHORS:
        raise ValueError(f"anchors: got {choice!r}, expected one of {', '.join(ANCHORS)}, or a function")
    chosen = ANCHORS[choice].choose(request) if isinstance(choice, str) else choice(request)
    return token_index(chosen, len(request.rank)).to(request.rank.device)


def cells(grid: Grid, count: int) -> Int[Tensor, " n"]:
    """Split a grid of (h, w) tokens into exactly `count` near-square cells, numbered in reading order.

    Bands of rows, each cut into as many cells as its neighbours, or one more: every token is in a cell and no
    cell is empty, for any h, w and count up to h·w.
    """
    height, width = grid
    bands = round(math.sqrt(count * height / width))
    bands = min(max(bands, -(-count // width), 1), height, count)
    numbers = torch.empty(height, width, dtype=torch.long)
    for band in range(bands):
        first, last = band * count // bands, (band + 1) * count // bands
        columns = torch.arange(width) * (last - first) // width
        numbers[band * height // bands : (band + 1) * height // bands] = first + columns
    return numbers.flatten()


def _clamped(request: AnchorRequest) -> int:
    return min(request.count, len(request.rank))


def _reference(request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """√count points a side, `step = (side − 1) // (points − 1)` apart and centred: 1, 5, …, 61 of 64."""
    points = math.isqrt(request.count)
    if points**2 != request.count or points > min(request.grid):
        raise ValueError(
            f"num_anchors: got {request.count} on a grid of {request.grid}, but the reference grid needs a "
            f"perfect square of at most {min(request.grid)}²; anchors='uniform' takes any number"
        )
    rows, columns = (_spaced(side, points) for side in request.grid)
    return (rows[:, None] * request.grid[1] + columns).flatten()


def _spaced(side: int, points: int) -> Int[Tensor, " points"]:
    step = (side - 1) // max(points - 1, 1) if points > 1 else 0
    return (side - 1 - step * (points - 1)) // 2 + step * torch.arange(points)


def _uniform(request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """The middle of each cell."""
    _, width = request.grid
    numbers = cells(request.grid, _clamped(request))
    order = numbers.argsort(stable=True)
    sizes = numbers.bincount()
    ends = sizes.cumsum(0)
    low, high = order[ends - sizes], order[ends - 1]  # opposite corners, since a cell is a rectangle
    rows, columns = (low // width + high // width) // 2, (low % width + high % width) // 2
    return rows * width + columns


def _best_of_cell(request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """The token of highest TokenRank in each cell, in reading order of the cells; of equals the first."""
    numbers = cells(request.grid, _clamped(request)).to(request.rank.device)
    by_rank = request.rank.argsort(descending=True, stable=True)
    ordered = by_rank[numbers[by_rank].argsort(stable=True)]
    sizes = numbers.bincount()
    return ordered[sizes.cumsum(0) - sizes]


def _top(request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """The tokens of highest TokenRank, the highest first."""
    return request.rank.argsort(descending=True, stable=True)[: _clamped(request)]


def _suppressed(request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """Greedily the highest TokenRank at least a radius from every anchor so far, the highest first.

    The radius (in tokens) is that of discs whose squares tile the grid; where it leaves no token before there
    are enough anchors it is halved, and goes on from those chosen.
    """
    height, width = request.grid
    rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
    rank, count = request.rank.cpu(), _clamped(request)
    radius = math.sqrt(height * width / count)
    distance = torch.full((height * width,), math.inf)
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(torch.where(distance >= radius, rank, -1.0).argmax())
        if distance[best] < radius:
            radius /= 2
            continue
        chosen.append(best)
        distance = torch.minimum(
            distance, torch.hypot((rows - rows[best]).float(), (columns - columns[best]).float())
        )
    return torch.tensor(chosen)


def _sample(request: AnchorRequest) -> Int[Tensor, " anchors"]:
    """Distinct tokens drawn ∝ TokenRank, in the order drawn."""
    weights = request.rank.cpu().double()
    return torch.multinomial(weights, _clamped(request), generator=request.generator)


@dataclass(frozen=True)
class AnchorRule:
    """A choice with a name: whether it is `blind` to the chain, and whether it is `drawn` at random."""

    choose: AnchorChoice
    blind: bool = False
    drawn: bool = False


ANCHORS: dict[str, AnchorRule] = {
    "tokenrank-grid": AnchorRule(_best_of_cell),
    "uniform": AnchorRule(_uniform, blind=True),
    "tokenrank-topk": AnchorRule(_top),
    "tokenrank-nms": AnchorRule(_suppressed),
    "tokenrank-sample": AnchorRule(_sample, drawn=True),
    "reference": AnchorRule(_reference, blind=True),
}
