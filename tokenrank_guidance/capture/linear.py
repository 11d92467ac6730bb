"""Linear attention: how it is seen, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenrank_guidance.capture.record import AttentionRecord, Subset
from tokenrank_guidance.markov import FactoredTransition
from tokenrank_guidance.markov.precision import full_precision

MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
Pair = tuple[Float[Tensor, "batch heads tokens dim"], Float[Tensor, "batch heads tokens dim"]]


class LinearAttentionRecord(AttentionRecord):
    """Queries and keys of one linear self-attention call, as they were after their rectifier: not negative.

    The map is `q @ k.T` with each row over its sum. A row of zeros, for which the layer returns zero, counts
    as even: a chain must go on from there, as PageRank's does from a dangling page.
    """

    def rows(self, tokens: Int[Tensor, " rows"] | slice) -> Float[Tensor, "batch heads rows tokens"]:
        """The rows of the map of some tokens alone, in float32 or better."""
        dtype = torch.promote_types(self.q.dtype, torch.float32)
        with full_precision(self.q.device):
            weights = self.q[:, :, tokens].to(dtype) @ self.k.to(dtype).mT
        sums = weights.sum(-1, keepdim=True)
        return torch.where(sums > 0, weights / torch.where(sums > 0, sums, 1.0), 1 / self.tokens)

    def transition(self, tokens: Subset = "all", memory: int | None = None) -> FactoredTransition:
        """The map as a Markov chain over `tokens`, which never needs a matrix, however much `memory`."""
        part = self.restrict(tokens)
        return FactoredTransition(part.q, part.k)


class LinearProducts:
    """Reads `(V Kᵀ) Q`, linear attention, off its two products of matrices; Q's tokens are its last axis."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the first product."""
        self._scores: Tensor | None = None
        self._k: Tensor | None = None

    def read(self, func: Callable[..., Any], args: Sequence[Any], made: Any) -> Pair | None:
        """Queries and keys, once a product has been multiplied by another factor; None until then."""
        if func not in MATMULS or len(args) != 2:
            return None
        if self._k is not None and args[0] is self._scores:
            return args[1].mT, self._k
        self._scores, self._k = made, args[1]
        return None
