"""Where a damped walk over the tokens spends its time."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenrank_guidance.checks import is_damping
from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.deferred import require
from tokenrank_guidance.markov.direct import Direct, solves_directly
from tokenrank_guidance.markov.distribution import as_distribution
from tokenrank_guidance.markov.implicit import ImplicitGradient
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.parts import in_parts
from tokenrank_guidance.markov.precision import full_precision
from tokenrank_guidance.markov.shapes import broadcast_shapes, broadcasts
from tokenrank_guidance.markov.solvers import MinimalResidual, Solver, Stationary

DIRECT, ITERATED = Direct(), MinimalResidual()


def stationary_distribution(
    maps: Maps,
    *,
    damping: float = 0.99,
    personalization: Float[Tensor, "*v n"] | None = None,
    start: Float[Tensor, "*x n"] | None = None,
    solver: Solver | Literal["auto"] = "auto",
) -> Stationary:
    """The fixed point of ``x <- d x P + (1 - d) v``, one distribution per chain of the batch.

    ``v`` is uniform, or ``personalization`` normalised; ``start`` is a warm start for iterations, else ``v``.
    Both are ``(..., n)`` with leading axes that broadcast with the batch. The value is differentiable once
    with respect to the chain and to ``v``, by one more solve (`ImplicitGradient`), not with respect to
    ``start``. ``solver="auto"`` is `Direct` for small chains in memory, else `MinimalResidual`
    (`DIRECT_TOKENS` has the sizes); both come to the same within ``tol``.

    `ConvergenceError` where ``solver`` fails; ``ValueError`` for damping outside the open interval (0, 1),
    for a malformed distribution, for a ``tol`` below the resolution of the dtype, or for another solver.
    Source: arXiv 2507.17657 (TokenRank); Page et al. 1999.
    """
    operator = as_operator(maps)
    if not is_damping(damping):
        raise ValueError(f"damping: got {damping!r}, expected a number in the open interval (0, 1)")
    chosen = _choose(solver, operator, damping)
    _check_resolution(chosen, operator.dtype)
    teleport = _teleport(personalization, operator)
    first = teleport if start is None else as_distribution(start, operator, "start")
    if not broadcasts(first.shape, teleport.shape):
        raise ValueError(f"start: shape {tuple(first.shape)} against personalization {tuple(teleport.shape)}")
    batch = broadcast_shapes(first.shape[:-1], teleport.shape[:-1], operator.batch_shape)
    vectors = [side.expand(*batch, operator.n) for side in (teleport, first)]
    if torch.is_grad_enabled() and (operator.requires_grad or teleport.requires_grad):
        with torch.no_grad(), full_precision(operator.device):
            result, adjoint = chosen.solve(operator, damping, *vectors)
        _require(result, chosen)
        stepped = damping * operator.apply(result.value) + (1 - damping) * teleport
        return replace(result, value=ImplicitGradient.apply(stepped, result.value, adjoint, chosen))

    def solve(part: TransitionOperator, *own: Float[Tensor, "*batch n"]) -> Stationary:
        nonlocal chosen
        chosen = _choose(solver, part, damping)  # alike for every part
        return chosen.solve(part, damping, *own)[0]

    with torch.no_grad(), full_precision(operator.device):
        result = in_parts(operator, solve, *vectors)
    _require(result, chosen)
    return result


def _choose(solver: Solver | str, operator: TransitionOperator, damping: float) -> Solver:
    if isinstance(solver, Solver):
        return solver
    if solver != "auto":
        raise ValueError(f"solver: got {solver!r}, expected 'auto', Direct(), MinimalResidual() or another")
    return DIRECT if solves_directly(operator, damping, DIRECT.tol) else ITERATED


def _require(result: Stationary, solver: Solver) -> None:
    if solver.raise_on_failure:
        require(result.converged.all(), lambda: _failure(result.converged, result.residual, solver))


def _teleport(personalization: Tensor | None, operator: TransitionOperator) -> Float[Tensor, "..."]:
    if personalization is not None:
        return as_distribution(personalization, operator, "personalization")
    return torch.full((operator.n,), 1 / operator.n, dtype=operator.dtype, device=operator.device)


def _check_resolution(solver: Solver, dtype: torch.dtype) -> None:
    if solver.tol < torch.finfo(dtype).eps:
        raise ValueError(
            f"tol: {solver.tol:g} is below what {dtype} resolves ({torch.finfo(dtype).eps:.2g}); "
            "raise it, or pass the chain in float64"
        )


def _failure(
    converged: Bool[Tensor, "*batch"], residual: Float[Tensor, "*batch"], solver: Solver
) -> ConvergenceError:
    failed = ~converged
    return ConvergenceError(
        f"{type(solver).__name__}: {int(failed.sum())} of {failed.numel()} chains did not reach "
        f"tol={solver.tol:g} {solver.effort}, largest residual {float(residual[failed].max()):.3g} (L1, "
        f"{residual.dtype}); {solver.advice}"
    )
