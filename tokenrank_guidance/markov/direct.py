"""The damped chain solved by one factorisation, where it is small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.precision import full_precision
from tokenrank_guidance.markov.solvers import Adjoint, Solver, Stationary
from tokenrank_guidance.markov.vectors import per_chain

# Up to how many tokens one factorisation takes less time than iterating. On one CPU core, milliseconds of a
# chain of float32 against those of iterations, from one that mixes fast to one that mixes slowly: 64 tokens:
# 0.1 against 5 to 22; 256: 1 against 4 to 13; 512: 4 against 3 to 16; 1,024: 26 against 3 to 11.
DIRECT_TOKENS = {"cpu": 256, "cuda": 512}
# Where 1 - d is less than this many times the resolution of the dtype, a pivot may be rounded to 0.
LEAST_GAP = 1e3


@dataclass(frozen=True)
class Direct(Solver):
    """``(I - d P.T) x = (1 - d) v`` by one LU factorisation of the matrix: n³ time, n² memory, no host sync.

    The matrix is strictly diagonally dominant by columns, so that there is always one solution. What rounding
    does to it is mostly a multiple of the solution itself, of the condition ``(1 + d) / (1 - d)``, and goes
    with the normalisation. ``residual`` is the L1 distance that one more step of the chain would take, some
    4 eps for 1,000 tokens; there are no steps. The gradient takes the same factors.
    """

    def solve(
        self,
        operator: TransitionOperator,
        damping: float,
        teleport: Float[Tensor, "*#batch n"],
        first: Float[Tensor, "*batch n"],
    ) -> tuple[Stationary, Adjoint]:
        factors = Factors(operator, damping)
        constant = ((1 - damping) * teleport).expand_as(first)
        value = factors.solve(constant).clamp_min(0)
        value = value / value.sum(-1, keepdim=True)
        residual = (factors.unfactored(value) - constant).abs().sum(-1)

        def adjoint(grad: Float[Tensor, "*batch n"]) -> Stationary:
            change = factors.solve(grad, adjoint=True)
            return self._result(change, torch.where(change.isfinite().all(-1), 0.0, torch.inf))

        return self._result(value, residual), adjoint

    def _result(self, value: Float[Tensor, "*batch n"], residual: Float[Tensor, "*batch"]) -> Stationary:
        steps = torch.zeros(residual.shape, dtype=torch.long, device=residual.device)
        return Stationary(value, residual <= self.tol, steps, residual.to(value.dtype))

    @property
    def effort(self) -> str:
        return "by one factorisation"

    @property
    def advice(self) -> str:
        return "pass solver=MinimalResidual(), or the chain in float64"


class Factors:
    """``A = I - d P.T`` of each chain, factored."""

    def __init__(self, operator: TransitionOperator, damping: float) -> None:
        self._batch = operator.batch_shape
        with full_precision(operator.device):
            matrix = operator.to_dense().reshape(-1, operator.n, operator.n).mT * -damping
            matrix.diagonal(dim1=-2, dim2=-1).add_(1)
            self._matrix = matrix
            self._lu, self._pivots = _factored(matrix)

    def solve(self, x: Float[Tensor, "*x n"], adjoint: bool = False) -> Float[Tensor, "*out n"]:
        """``A⁻¹ x``, or with ``adjoint`` its transpose's."""

        def product(stack: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
            return torch.linalg.lu_solve(self._lu, self._pivots, stack.mT, adjoint=adjoint).mT

        with full_precision(x.device):
            return per_chain(product, x, self._batch)

    def unfactored(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        """``A x``."""
        with full_precision(x.device):
            return per_chain(lambda stack: stack @ self._matrix.mT, x, self._batch)


def _factored(matrices: Float[Tensor, "chains n n"]) -> tuple[Tensor, Tensor]:
    """LU and pivots of each matrix.

    Several threads of a CPU factor one matrix after the other: torch gives a batch of them to MKL from as
    many threads, in which its row swaps are not safe (pytorch issues 142815, 141358): wrong pivots, or none.
    """
    if matrices.device.type != "cpu" or torch.get_num_threads() == 1:
        return torch.linalg.lu_factor_ex(matrices)[:2]
    lu, pivots = zip(*(torch.linalg.lu_factor_ex(one)[:2] for one in matrices), strict=True)
    return torch.stack(lu), torch.stack(pivots)


def solves_directly(operator: TransitionOperator, damping: float, tol: float) -> bool:
    """Whether one factorisation is the way for this chain: its size, its device and what it may hold."""
    resolution = torch.finfo(operator.dtype).eps
    return (
        operator.holds_matrices
        and operator.n <= DIRECT_TOKENS.get(operator.device.type, 0)
        and 1 - damping >= LEAST_GAP * resolution
        and tol >= 8 * resolution
    )
