"""One chain made of several over the same tokens, and one with a teleport in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.checks import is_number
from tokenrank_guidance.markov.composite import _Derived
from tokenrank_guidance.markov.distribution import normalise
from tokenrank_guidance.markov.operator import TransitionOperator


class SumTransition(_Derived):
    """``sum_k w_k P_k`` of several operators of one shape: a walk that picks one of them anew at every step.

    The chains of several layers, passes or draws of noise become one so, in the memory that they take
    together. ``weights`` are one number each, normalised to sum 1. ``ValueError`` for none, unequal shapes,
    and for weights that are negative, not finite or all zero.
    """

    def __init__(self, operators: Sequence[TransitionOperator], weights: Float[Tensor, " k"]) -> None:
        shapes = {operator.shape for operator in operators}
        if len(shapes) != 1:
            raise ValueError(f"operators: got shapes {sorted(shapes) or 'none'}, expected one and the same")
        if tuple(weights.shape) != (len(operators),):
            raise ValueError(f"weights: shape {tuple(weights.shape)}, expected ({len(operators)},)")
        self._operators, self._operator = tuple(operators), operators[0]
        self._weights = normalise(weights.to(self._operator.device, self._operator.dtype), "weights")

    @property
    def shape(self) -> tuple[int, ...]:
        return self._operator.shape

    @property
    def dtype(self) -> torch.dtype:
        dtypes = [operator.dtype for operator in self._operators]
        return torch.float64 if torch.float64 in dtypes else torch.float32

    @property
    def requires_grad(self) -> bool:
        return self._weights.requires_grad or any(one.requires_grad for one in self._operators)

    @property
    def holds_matrices(self) -> bool:
        return all(operator.holds_matrices for operator in self._operators)

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        vector = self._as_vector(x)
        return self._sum([operator.apply(vector) for operator in self._operators])

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        vector = self._as_vector(y)
        return self._sum([operator.apply_transpose(vector) for operator in self._operators])

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        return self._sum([operator.to_dense() for operator in self._operators])

    def _sum(self, parts: Sequence[Float[Tensor, "*part"]]) -> Float[Tensor, "*part"]:
        total = self._weights[0] * parts[0].to(self.dtype)
        for weight, part in zip(self._weights[1:], parts[1:], strict=True):
            total = total + weight * part.to(self.dtype)
        return total


class DampedTransition(_Derived):
    """``d P + (1 - d) 1 vᵀ``, v even over the tokens: the chain with the teleport as part of it.

    The teleport matrix is not built. With it, steps against attention count an even share of attention too,
    ``d P + (1 - d) / n`` over its column sums, as the authors' demo has it. ``damping`` is in (0, 1].
    """

    def __init__(self, operator: TransitionOperator, damping: float) -> None:
        if not (is_number(damping) and 0 < damping <= 1):
            raise ValueError(f"damping: got {damping!r}, expected a number in (0, 1]")
        self._operator, self._damping = operator, damping

    @property
    def shape(self) -> tuple[int, ...]:
        return self._operator.shape

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        return self._blend(self._as_vector(x), self._operator.apply(x))

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        return self._blend(self._as_vector(y), self._operator.apply_transpose(y))

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        return self._damping * self._operator.to_dense() + (1 - self._damping) / self.n

    def _blend(self, x: Float[Tensor, "*x n"], moved: Float[Tensor, "*out n"]) -> Float[Tensor, "*out n"]:
        """The even matrix is symmetric: it gives each token the mean of all, in both directions."""
        return self._damping * moved + (1 - self._damping) * x.mean(-1, keepdim=True)
