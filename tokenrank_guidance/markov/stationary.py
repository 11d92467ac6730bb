"""Where a damped walk over the tokens spends its time."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.checks import is_damping
from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.distribution import as_distribution, broadcasts
from tokenrank_guidance.markov.implicit import ImplicitGradient
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.solvers import MinimalResidual, Solver, Stationary

DEFAULT_SOLVER = MinimalResidual()


def stationary_distribution(
    maps: Maps,
    *,
    damping: float = 0.99,
    personalization: Float[Tensor, "*v n"] | None = None,
    start: Float[Tensor, "*x n"] | None = None,
    solver: Solver = DEFAULT_SOLVER,
) -> Stationary:
    """Iterate ``x <- d x P + (1 - d) v`` to its fixed point, one distribution per chain of the batch.

    ``v`` is uniform, or ``personalization`` normalised; ``start`` is a warm start, else ``v``. Both are
    ``(..., n)`` with leading axes that broadcast with the batch. The value is differentiable once with
    respect to the chain and to ``v``, by one more solve (`ImplicitGradient`), not with respect to ``start``.

    `ConvergenceError` where ``solver`` runs out of steps; ``ValueError`` for damping outside the open
    interval (0, 1), for a malformed distribution, or for a ``tol`` below the resolution of the dtype.
    Source: arXiv 2507.17657 (TokenRank); Page et al. 1999.
    """
    operator = as_operator(maps)
    if not is_damping(damping):
        raise ValueError(f"damping: got {damping!r}, expected a number in the open interval (0, 1)")
    _check_resolution(solver, operator.dtype)
    teleport = _teleport(personalization, operator)
    first = teleport if start is None else as_distribution(start, operator, "start")
    if not broadcasts(first.shape, teleport.shape):
        raise ValueError(f"start: shape {tuple(first.shape)} against personalization {tuple(teleport.shape)}")
    result = _solve(operator, first, damping, teleport, solver)
    if solver.raise_on_failure and not result.converged.all():
        raise ConvergenceError(_failure(result, solver))
    if torch.is_grad_enabled() and (operator.requires_grad or teleport.requires_grad):
        stepped = damping * operator.apply(result.value) + (1 - damping) * teleport
        value = ImplicitGradient.apply(stepped, result.value, operator, damping, solver)
        return replace(result, value=value)
    return result


@torch.no_grad()
def _solve(
    operator: TransitionOperator, first: Tensor, damping: float, teleport: Tensor, solver: Solver
) -> Stationary:
    def propagate(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        # Less the mass that arrives: a change keeps the sum 0, where mass gained by rounding would leave only
        # at 1 - d a step.
        x = damping * operator.apply(x)
        return x - x.sum(-1, keepdim=True) * teleport

    batch = torch.broadcast_shapes(first.shape[:-1], teleport.shape[:-1], operator.batch_shape)
    result = solver.run(propagate, teleport, first.expand(*batch, operator.n))
    value = result.value.clamp_min(0)
    return replace(result, value=value / value.sum(-1, keepdim=True))


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


def _failure(result: Stationary, solver: Solver) -> str:
    failed = ~result.converged
    name = type(solver).__name__
    return (
        f"{name}: {int(failed.sum())} of {failed.numel()} chains did not reach tol={solver.tol:g} "
        f"in {solver.max_steps} steps, largest residual {float(result.residual[failed].max()):.3g} (L1, "
        f"{result.value.dtype}); raise max_steps or tol, lower damping, or pass "
        f"solver={name}(raise_on_failure=False) to get the last iterate"
    )
