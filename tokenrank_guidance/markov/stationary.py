"""Where a damped walk over the tokens spends its time."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.distribution import as_distribution, broadcasts
from tokenrank_guidance.markov.operator import TransitionOperator


@dataclass(frozen=True)
class PowerIteration:
    """When to stop iterating, and what to do when that fails.

    ``tol`` bounds the L1 distance between two successive iterates, not the error: that is at most
    ``damping / (1 - damping)`` times as large, and rounding adds some ``eps / (1 - damping)`` on a chain that
    mixes slowly. As distances shrink by ``damping`` a step, the default ``max_steps`` suffices for
    ``tol=1e-12`` at damping 0.999. Every ``check_every`` steps the host asks the device if all is done (a
    sync; ``None``: each step on a CPU, every 8th elsewhere); results do not change with it.
    """

    tol: float = 1e-6
    max_steps: int = 30_000
    check_every: int | None = None
    raise_on_failure: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.tol < math.inf:
            raise ValueError(f"tol: got {self.tol}, expected a positive number")
        if self.max_steps < 1:
            raise ValueError(f"max_steps: got {self.max_steps}, expected at least 1")
        if self.check_every is not None and self.check_every < 1:
            raise ValueError(f"check_every: got {self.check_every}, expected at least 1")


DEFAULT_SOLVER = PowerIteration()


@dataclass(frozen=True)
class Stationary:
    """Stationary distributions and how each was reached.

    ``residual`` is the L1 distance of the last step that the chain took, ``steps`` how many it took. A chain
    stops for itself once ``residual <= tol``, so its result does not depend on the others in its batch.
    """

    value: Float[Tensor, "*batch n"]
    converged: Bool[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]
    residual: Float[Tensor, "*batch"]


def stationary_distribution(
    maps: Maps,
    *,
    damping: float = 0.99,
    personalization: Float[Tensor, "*v n"] | None = None,
    start: Float[Tensor, "*x n"] | None = None,
    solver: PowerIteration = DEFAULT_SOLVER,
) -> Stationary:
    """Iterate ``x <- d x P + (1 - d) v`` to its fixed point, one distribution per chain of the batch.

    What is iterated is the change, ``c <- d c P`` and ``x <- x + c``. The iterates are the same, but ``c``
    always shrinks, where a float32 ``x`` of a near-periodic chain stalls at changes of ``eps / (1 - d)``.

    ``v`` is uniform, or ``personalization`` normalised; ``start`` is a warm start, else ``v``. Both are
    ``(..., n)`` with leading axes that broadcast with the batch. No gradient flows through the iteration.

    `ConvergenceError` where ``solver`` runs out of steps; ``ValueError`` for damping outside the open
    interval (0, 1), for a malformed distribution, or for a ``tol`` below the resolution of the dtype.
    Source: arXiv 2507.17657 (TokenRank); Page et al. 1999.
    """
    operator = as_operator(maps)
    if not 0 < damping < 1:
        raise ValueError(f"damping: got {damping}, expected a number in the open interval (0, 1)")
    _check_resolution(solver, operator.dtype)
    teleport = _teleport(personalization, operator)
    first = teleport if start is None else as_distribution(start, operator, "start")
    if not broadcasts(first.shape, teleport.shape):
        raise ValueError(f"start: shape {tuple(first.shape)} against personalization {tuple(teleport.shape)}")
    result = _iterate(operator, first, damping, teleport, solver)
    if solver.raise_on_failure and not result.converged.all():
        raise ConvergenceError(_failure(result, solver))
    return result


@torch.no_grad()
def _iterate(
    operator: TransitionOperator, first: Tensor, damping: float, teleport: Tensor, solver: PowerIteration
) -> Stationary:
    batch = torch.broadcast_shapes(first.shape[:-1], teleport.shape[:-1], operator.batch_shape)
    x = first.expand(*batch, operator.n)
    residual = x.new_full(batch, math.inf)
    steps = torch.zeros(batch, dtype=torch.long, device=x.device)
    active = torch.ones(batch, dtype=torch.bool, device=x.device)
    check_every = solver.check_every or (1 if x.device.type == "cpu" else 8)
    change = damping * operator.apply(x) + (1 - damping) * teleport - x
    for step in range(1, solver.max_steps + 1):
        # A change sums to 0. Mass gained by rounding would leave only at 1 - d a step, so it goes now.
        change = change - change.sum(-1, keepdim=True) * teleport
        x = torch.where(active.unsqueeze(-1), x + change, x)
        residual = torch.where(active, change.abs().sum(-1), residual)
        steps = steps + active
        active = active & ~(residual <= solver.tol)  # a NaN stays active, and is reported
        if step % check_every == 0 and not active.any():
            break
        change = damping * operator.apply(change)
    x = x.clamp_min(0)
    return Stationary(value=x / x.sum(-1, keepdim=True), converged=~active, steps=steps, residual=residual)


def _teleport(personalization: Tensor | None, operator: TransitionOperator) -> Float[Tensor, "..."]:
    if personalization is not None:
        return as_distribution(personalization, operator, "personalization")
    return torch.full((operator.n,), 1 / operator.n, dtype=operator.dtype, device=operator.device)


def _check_resolution(solver: PowerIteration, dtype: torch.dtype) -> None:
    if solver.tol < torch.finfo(dtype).eps:
        raise ValueError(
            f"tol: {solver.tol:g} is below what {dtype} resolves ({torch.finfo(dtype).eps:.2g}); "
            "raise it, or pass the chain in float64"
        )


def _failure(result: Stationary, solver: PowerIteration) -> str:
    failed = ~result.converged
    return (
        f"power iteration: {int(failed.sum())} of {failed.numel()} chains did not reach tol={solver.tol:g} "
        f"in {solver.max_steps} steps, largest residual {float(result.residual[failed].max()):.3g} (L1, "
        f"{result.value.dtype}); raise max_steps or tol, lower damping, or pass "
        "solver=PowerIteration(raise_on_failure=False) to get the last iterate"
    )
