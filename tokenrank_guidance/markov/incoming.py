"""The chain of who attends to a token, without a matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.composite import _Derived
from tokenrank_guidance.markov.operator import TransitionOperator


class IncomingTransition(_Derived):
    """``P_in[j, i] = P[i, j] / sum_i P[i, j]``: steps against attention as a chain of its own.

    Its `apply` is the operator's `apply_incoming`; a token that nobody attends to stays where it is. Of
    queries and keys that changed places (softmax over the queries) it is the chain whose rows are what keys
    get, normalised.
    """

    def __init__(self, operator: TransitionOperator) -> None:
        self._operator = operator

    @property
    def shape(self) -> tuple[int, ...]:
        return self._operator.shape

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        return self._operator.apply_incoming(x)

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        sums = self._operator.column_sums
        attended = sums >= torch.finfo(self.dtype).tiny
        y = self._as_vector(y)
        return torch.where(attended, self._operator.apply(y) / torch.where(attended, sums, 1.0), y)

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        lead = (self.n, *(1,) * len(self.batch_shape), self.n)
        rows = self.apply(torch.eye(self.n, dtype=self.dtype, device=self.device).view(lead))
        return rows.movedim(0, -2)
