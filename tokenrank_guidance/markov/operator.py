"""The one interface between a chain and the algorithms that run on it."""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


class TransitionOperator(ABC):
    """A batch of row-stochastic matrices ``P``, known by their products with row vectors.

    Immutable. ``shape`` is ``(*batch, n, n)``; heads, where there are any, are the last batch axis.
    Vectors are ``(..., n)``: their leading axes broadcast with ``batch``, and they are cast to ``dtype``.
    ``dtype`` is the one computed in, float32 or float64, whatever the precision of the attention map.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """``(*batch, n, n)``."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What products are computed and returned in: float32 or float64."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where vectors must live."""

    @abstractmethod
    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        """One step along outgoing attention, ``x @ P``."""

    @abstractmethod
    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        """``y @ P.T``: entry i is the mean of ``y`` over where token i attends."""

    @abstractmethod
    def restrict(self, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> "TransitionOperator":
        """The chain on ``tokens`` alone, in their order: rows and columns kept, rows renormalised to sum 1.

        This is softmax over those keys alone. A ``ValueError`` names a row with no mass left.
        """

    @abstractmethod
    def select(self, chains: Int[Tensor, "*k"]) -> "TransitionOperator":
        """The chains at these positions of the flattened batch, as a batch of the positions' shape."""

    @abstractmethod
    def mix(self, head_weights: Float[Tensor, "*weights heads"]) -> "TransitionOperator":
        """``sum_h w_h P_h`` over the last batch axis; weights are normalised to sum 1."""

    @abstractmethod
    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        """The matrices themselves; ``n**2`` memory each."""

    @property
    def requires_grad(self) -> bool:
        """Whether a derivative with respect to the chain itself is wanted."""
        return False

    @property
    def holds_matrices(self) -> bool:
        """Whether the matrices are in memory, or may be."""
        return False

    @property
    def room(self) -> int:
        """How many of its chains are best in memory at a time, as matrices; 0: none is made of it."""
        return 0

    def part(self, first: int, end: int) -> "TransitionOperator":
        """The chains from one position of the flattened batch to before another, as a batch."""
        return self.select(torch.arange(first, end, device=self.device))

    def condensed(self) -> "TransitionOperator":
        """A smaller chain with the same eigenvalues but for zeros, where there is one; else the chain."""
        return self

    @property
    def n(self) -> int:
        """Number of tokens."""
        return self.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``shape`` without the two token axes."""
        return self.shape[:-2]

    @cached_property
    def column_sums(self) -> Float[Tensor, "*batch n"]:
        """``sum_i P[i, j]``, mean 1: the attention that token j receives."""
        return self.apply(torch.ones(self.n, dtype=self.dtype, device=self.device))

    def row(self, token: int) -> Float[Tensor, "*batch n"]:
        """``P[token]``: where one token attends; ``IndexError`` for one that is not there."""
        start = torch.zeros(self.n, dtype=self.dtype, device=self.device)
        start[token] = 1
        return self.apply(start)

    def apply_incoming(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        """One step along incoming attention, ``x @ P_in`` with ``P_in[j, i] = P[i, j] / sum_i P[i, j]``.

        Mass on a token that nobody attends to (a column that sums to less than the smallest normal number)
        stays where it is, so that the step keeps the total. This is not the time reversal of the chain.
        """
        x = self._as_vector(x)
        attended = self.column_sums >= torch.finfo(self.dtype).tiny
        share = torch.where(attended, x / torch.where(attended, self.column_sums, 1.0), 0.0)
        return self.apply_transpose(share) + torch.where(attended, 0.0, x)

    def _as_vector(self, x: Shaped[Tensor, "*x m"]) -> Float[Tensor, "*x m"]:
        if x.shape[-1:] != (self.n,):
            raise ValueError(
                f"vector of shape {tuple(x.shape)} on a chain of {self.n} tokens: expected (..., {self.n})"
            )
        return x.to(self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, device={self.device})"


def token_index(tokens: Shaped[Tensor, " m"], n: int) -> Int[Tensor, " k"]:
    """Read a bool mask ``(n,)`` or distinct indices ``(k,)`` in [0, n) as indices; else ``ValueError``."""
    if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex():
        raise ValueError(
            f"tokens: got {tokens.dtype} of shape {tuple(tokens.shape)}, expected 1-D indices or bool"
        )
    if tokens.dtype == torch.bool:
        if len(tokens) != n:
            raise ValueError(f"tokens: bool mask of length {len(tokens)} on a chain of {n} tokens")
        tokens = tokens.nonzero().squeeze(-1)
    if len(tokens) == 0:
        raise ValueError("tokens: none is kept; a chain needs at least one")
    low, high = torch.stack(tokens.aminmax()).tolist()
    if low < 0 or high >= n:
        raise ValueError(f"tokens: indices span [{low}, {high}], expected [0, {n - 1}]")
    if len(tokens.unique()) < len(tokens):
        raise ValueError("tokens: an index occurs twice, which would count its attention twice")
    return tokens.long()


def restricted_mass(mass: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Pass on the row sums of a restricted chain; ``ValueError`` for a row that lost all its mass."""
    lost = mass < torch.finfo(mass.dtype).tiny
    if lost.any():
        raise ValueError(
            f"restrict: row {lost.nonzero()[0].tolist()} (batch axes, then position in tokens) has no mass "
            "left, it attends only to dropped tokens; keep one of those, or restrict before the softmax"
        )
    return mass
