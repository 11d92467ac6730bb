"""Chains made from other chains, without a matrix."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.markov.distribution import as_head_weights
from tokenrank_guidance.markov.operator import TransitionOperator, restricted_mass, token_index
from tokenrank_guidance.markov.shapes import broadcast_shapes


class _Derived(TransitionOperator):
    """What every chain over another chain shares: its precision, its device and how it composes further."""

    _operator: TransitionOperator

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        return self._operator.device

    @property
    def requires_grad(self) -> bool:
        return self._operator.requires_grad

    @property
    def holds_matrices(self) -> bool:
        return self._operator.holds_matrices

    def restrict(self, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> "RestrictedTransition":
        return RestrictedTransition(self, tokens)

    def select(self, chains: Int[Tensor, "*k"]) -> TransitionOperator:
        return SelectedTransition(self, chains)

    def mix(self, head_weights: Float[Tensor, "*weights heads"]) -> "MixtureTransition":
        return MixtureTransition(self, head_weights)


class MixtureTransition(_Derived):
    """``sum_h w_h P_h`` over the heads of any operator: ``(*batch, heads, n, n)`` becomes ``(*batch, n, n)``.

    A random walk that picks a head anew at every step. Weights ``(heads,)`` or ``(*batch, heads)`` are
    normalised; negative, non-finite or all-zero ones are a ``ValueError``.
    """

    def __init__(self, operator: TransitionOperator, head_weights: Float[Tensor, "*weights heads"]) -> None:
        self._operator = operator
        self._weights = as_head_weights(head_weights, operator).unsqueeze(-1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._operator.batch_shape[:-1], *self._operator.shape[-2:])

    @property
    def requires_grad(self) -> bool:
        return self._operator.requires_grad or self._weights.requires_grad

    @property
    def room(self) -> int:
        return self._operator.room

    def select(self, chains: Int[Tensor, "*k"]) -> TransitionOperator:
        """Their own heads, mixed anew: one matrix each, where it fits."""
        weights = self._weights.squeeze(-1)
        heads = torch.arange(weights.shape[-1], device=chains.device)
        own = self._operator.select(chains.unsqueeze(-1) * len(heads) + heads)
        return own.mix(weights.expand(self._operator.batch_shape).reshape(-1, len(heads))[chains])

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        return (self._weights * self._operator.apply(self._as_vector(x).unsqueeze(-2))).sum(-2)

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        return (self._weights * self._operator.apply_transpose(self._as_vector(y).unsqueeze(-2))).sum(-2)

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        return (self._weights.unsqueeze(-1) * self._operator.to_dense()).sum(-3)


class RestrictedTransition(_Derived):
    """Any operator on k of its tokens: ``P[tokens, tokens]`` with rows renormalised, ``(*batch, k, k)``.

    Each product still costs one of the whole chain; an operator that can drop keys itself does so cheaper.
    """

    def __init__(self, operator: TransitionOperator, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> None:
        self._operator = operator
        self._index = token_index(tokens, operator.n).to(operator.device)
        kept = self._scatter(torch.ones(len(self._index), dtype=operator.dtype, device=operator.device))
        self._mass = restricted_mass(operator.apply_transpose(kept)[..., self._index])

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._operator.batch_shape, len(self._index), len(self._index))

    def apply(self, x: Float[Tensor, "*x k"]) -> Float[Tensor, "*out k"]:
        return self._operator.apply(self._scatter(self._as_vector(x) / self._mass))[..., self._index]

    def apply_transpose(self, y: Float[Tensor, "*y k"]) -> Float[Tensor, "*out k"]:
        ends = self._operator.apply_transpose(self._scatter(self._as_vector(y)))
        return ends[..., self._index] / self._mass

    def to_dense(self) -> Float[Tensor, "*batch k k"]:
        block = self._operator.to_dense()[..., self._index[:, None], self._index]
        return block / self._mass.unsqueeze(-1)

    def _scatter(self, x: Float[Tensor, "*x k"]) -> Float[Tensor, "*x n"]:
        return x.new_zeros(*x.shape[:-1], self._operator.n).index_copy(-1, self._index, x)


class SelectedTransition(_Derived):
    """Some chains of any operator's flattened batch, ``(*k, n, n)``; a product still costs one with all."""

    def __init__(self, operator: TransitionOperator, chains: Int[Tensor, "*k"]) -> None:
        self._operator = operator
        self._chains = chains.to(operator.device)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._chains.shape, *self._operator.shape[-2:])

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        return self._gather(self._operator.apply(self._scatter(self._as_vector(x))))

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        return self._gather(self._operator.apply_transpose(self._scatter(self._as_vector(y))))

    def to_dense(self) -> Float[Tensor, "*k n n"]:
        return self._operator.to_dense().reshape(-1, self.n, self.n)[self._chains]

    def _scatter(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*whole n"]:
        batch = self._operator.batch_shape
        x = x.expand(*broadcast_shapes(x.shape[:-1], self.batch_shape), self.n)
        lead = x.shape[: x.ndim - 1 - self._chains.ndim]
        own = x.reshape(*lead, -1, self.n)
        whole = x.new_zeros(*lead, math.prod(batch), self.n).index_copy(-2, self._chains.flatten(), own)
        return whole.view(*lead, *batch, self.n)

    def _gather(self, whole: Float[Tensor, "*whole n"]) -> Float[Tensor, "*out n"]:
        batch = self._operator.batch_shape
        lead = whole.shape[: whole.ndim - 1 - len(batch)]
        own = whole.reshape(*lead, -1, self.n).index_select(-2, self._chains.flatten())
        return own.view(*lead, *self._chains.shape, self.n)
