"""A chain whose matrix is in memory."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.markov.deferred import require
from tokenrank_guidance.markov.distribution import as_head_weights
from tokenrank_guidance.markov.operator import TransitionOperator, restricted_mass, token_index
from tokenrank_guidance.markov.precision import compute_dtype, full_precision
from tokenrank_guidance.memory import chains_at_a_time

# How far a softmax row of each dtype strays from 1: rounding of every entry, and underflow in float16.
ROW_SUM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 2e-2}


class DenseTransition(TransitionOperator):
    """A row-stochastic tensor ``(*batch, n, n)``, checked once and renormalised in float32 or float64.

    ``ValueError`` if it is not floating, square, finite, non-negative, or if a row does not sum to 1 within
    ``ROW_SUM_TOLERANCE`` of its dtype. Holds a copy; costs one host sync to build and none to use.
    """

    def __init__(self, matrix: Float[Tensor, "*batch n n"]) -> None:
        _check_shape(matrix)
        exact = matrix.to(compute_dtype(matrix.dtype))
        sums = exact.sum(-1, keepdim=True)
        _check_stochastic(matrix, sums)
        self._matrix = exact / sums

    @classmethod
    def trusted(cls, matrix: Float[Tensor, "*batch n n"]) -> "DenseTransition":
        """Hold a matrix whose rows are known to sum to 1, in float32 or float64, unchecked and uncopied."""
        self = cls.__new__(cls)
        self._matrix = matrix
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._matrix.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        return self._matrix.device

    @property
    def requires_grad(self) -> bool:
        return self._matrix.requires_grad

    @property
    def holds_matrices(self) -> bool:
        return True

    @property
    def room(self) -> int:
        size = self.n**2 * self.dtype.itemsize
        return chains_at_a_time(size, self._matrix.numel() * self.dtype.itemsize, self.device)

    def part(self, first: int, end: int) -> "DenseTransition":
        return DenseTransition.trusted(self._matrix.reshape(-1, self.n, self.n)[first:end])

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        with full_precision(self.device):
            return (self._as_vector(x).unsqueeze(-2) @ self._matrix).squeeze(-2)

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        with full_precision(self.device):
            return (self._as_vector(y).unsqueeze(-2) @ self._matrix.mT).squeeze(-2)

    def restrict(self, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> "DenseTransition":
        index = token_index(tokens, self.n).to(self.device)
        block = self._matrix[..., index[:, None], index]
        return DenseTransition(block / restricted_mass(block.sum(-1))[..., None])

    def select(self, chains: Int[Tensor, "*k"]) -> "DenseTransition":
        return DenseTransition.trusted(self._matrix.reshape(-1, self.n, self.n)[chains])

    def mix(self, head_weights: Float[Tensor, "*weights heads"]) -> "DenseTransition":
        """Mix the matrices once, so that each later step costs one head and not all of them."""
        weights = as_head_weights(head_weights, self)
        with full_precision(self.device):
            mixed = torch.einsum("...h,...hij->...ij", weights, self._matrix)
            return DenseTransition.trusted(mixed / mixed.sum(-1, keepdim=True))

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        return self._matrix


def _check_shape(matrix: Tensor) -> None:
    shape = tuple(matrix.shape)
    if not matrix.is_floating_point():
        raise ValueError(f"transition: dtype {matrix.dtype}, expected floating point")
    if matrix.layout != torch.strided:
        raise ValueError(
            f"transition: layout {matrix.layout}, expected a dense tensor: call to_dense() on it"
        )
    if matrix.ndim < 2 or matrix.numel() == 0:
        raise ValueError(f"transition: shape {shape}, expected (..., n, n) with at least one token")
    if shape[-1] != shape[-2]:
        raise ValueError(
            f"transition: shape {shape} is not square in its last two axes (cross-attention?); "
            "only self-attention or joint attention is a chain"
        )


def _check_stochastic(matrix: Tensor, sums: Tensor) -> None:
    tolerance = ROW_SUM_TOLERANCE.get(matrix.dtype, max(ROW_SUM_TOLERANCE.values()))
    bounds = torch.stack([*(end.to(sums.dtype) for end in matrix.aminmax()), *sums.aminmax()])
    low, high, shortest, longest = bounds
    # NaN fails either.
    holds = (low >= 0) & (high < math.inf) & (1 - tolerance <= shortest) & (longest <= 1 + tolerance)
    require(holds, lambda: _not_stochastic(bounds, matrix.dtype, tolerance))


def _not_stochastic(bounds: Float[Tensor, "4"], dtype: torch.dtype, tolerance: float) -> ValueError:
    low, high, shortest, longest = bounds.tolist()
    if not (low >= 0 and high < math.inf):
        return ValueError(
            f"transition: entries in [{low:.4g}, {high:.4g}], expected finite, non-negative ones"
        )
    return ValueError(
        f"transition: rows sum to [{shortest:.6g}, {longest:.6g}], expected 1 within {tolerance:g} for "
        f"{dtype}; pass post-softmax attention in its own dtype, queries on the rows, no dropout"
    )
