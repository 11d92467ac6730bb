"""How slowly a chain mixes."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.checks import is_whole
from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.krylov import CHECKS, Arnoldi, Krylov
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.parts import in_parts
from tokenrank_guidance.markov.precision import float64_on_cpu, full_precision

# Up to how many tokens each way takes the least time. On one CPU core, milliseconds for 8 heads by `Eigvals`,
# `Squaring` and Arnoldi's method to three digits: 16 tokens: 0.6, 0.9, 15; 64: 15, 6, 40; 256: 500, 90, 120.
EIGVALS_TOKENS = {"cpu": 64}
SQUARING_TOKENS = {"cpu": 256, "cuda": 512}


@dataclass(frozen=True)
class Eigvals:
    """Every eigenvalue of the matrix itself, by LAPACK in float64: exact, n³ time and n² memory."""


@dataclass(frozen=True)
class Squaring:
    """``|A^2m|^(1/m) / |A^m|^(1/m)`` with ``m = 2^(squarings - 1)``, A being P on vectors that sum to 0.

    That tends to the largest modulus of an eigenvalue of A (Gelfand 1941), a complex pair's too, to 1e-4 for
    the default and half the digits of the dtype where an eigenvalue is defective. Matrix products alone, and
    no host sync: n³ time, n² memory.
    """

    squarings: int = 16

    def __post_init__(self) -> None:
        if not is_whole(self.squarings, 2):
            raise ValueError(f"squarings: got {self.squarings!r}, expected at least 2")


SpectrumSolver = Arnoldi | Eigvals | Squaring


@dataclass(frozen=True)
class SecondEigenvalue:
    """Moduli of second eigenvalues and how each was reached.

    ``residual`` is ``|x P - z x|`` for the unit vector ``x`` that was found, with z of this modulus, or how
    far the last squaring changed the value; ``steps`` is how many products with vectors it took.
    """

    value: Float[Tensor, "*batch"]
    converged: Bool[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]
    residual: Float[Tensor, "*batch"]


def second_eigenvalue(
    maps: Maps, solver: SpectrumSolver | Literal["auto"] = "auto"
) -> Float[Tensor, "*batch"]:
    """Modulus of the second-largest eigenvalue of the undamped ``P``, without a gradient.

    One eigenvalue, the largest, is 1 and is left out; a complex pair counts by its modulus. A reducible or
    periodic chain gives 1, a chain of one token 0. Shape ``(*batch,)``, the chain's dtype and device.
    Near 1: a metastable, structured head; near 0: a noisy one. For how it was found, and for what is raised,
    see `solve_second_eigenvalue`. Source: arXiv 2507.17657.
    """
    return solve_second_eigenvalue(maps, solver).value


@torch.no_grad()
def solve_second_eigenvalue(
    maps: Maps, solver: SpectrumSolver | Literal["auto"] = "auto"
) -> SecondEigenvalue:
    """Modulus of the second-largest eigenvalue of the undamped ``P``, and how it was found.

    It is the largest eigenvalue of ``P - 1 u`` for any distribution u: of P on vectors that sum to 0.
    Arnoldi's method finds it from one fixed random start, with thick restarts; a complex pair counts by its
    modulus, a multiple eigenvalue once. `ConvergenceError` where ``solver`` runs out of steps. `Eigvals`
    takes the dense matrix instead, and its second modulus as it is, `Squaring` its powers. ``"auto"`` takes
    one of these for small chains in memory, by `spectrum_solver`. ``ValueError`` for another solver.
    Source: Stewart 2001 (Krylov-Schur), Wu and Simon 2000 (thick restart); arXiv 2507.17657.
    """
    if not (isinstance(solver, SpectrumSolver) or solver == "auto"):
        raise ValueError(f"solver: got {solver!r}, expected 'auto', Arnoldi(), Eigvals() or Squaring()")
    chosen: SpectrumSolver = Arnoldi()

    def solve(part: TransitionOperator) -> SecondEigenvalue:
        nonlocal chosen
        chosen = spectrum_solver(part, Arnoldi()) if isinstance(solver, str) else solver  # alike for all
        if isinstance(chosen, Eigvals):
            return _dense(part)
        if isinstance(chosen, Squaring):
            return _squared(part, chosen.squarings)
        with full_precision(part.device):
            return _iterate(part, chosen)

    result = in_parts(as_operator(maps).condensed(), solve)
    if isinstance(chosen, Arnoldi) and chosen.raise_on_failure and not result.converged.all():
        raise ConvergenceError(_failure(result, chosen))
    return result


def spectrum_solver(operator: TransitionOperator, iterated: Arnoldi) -> SpectrumSolver:
    """The way that takes the least time for this chain, by its size, its device and what it may hold."""
    operator, device = operator.condensed(), operator.device.type
    if operator.holds_matrices and operator.n <= EIGVALS_TOKENS.get(device, 0):
        return Eigvals()
    if operator.holds_matrices and operator.n <= SQUARING_TOKENS.get(device, 0):
        return Squaring()
    return iterated


def _dense(operator: TransitionOperator) -> SecondEigenvalue:
    moduli = torch.linalg.eigvals(float64_on_cpu(operator.to_dense())).abs().sort(-1, descending=True).values
    second = moduli[..., 1] if operator.n > 1 else torch.zeros(operator.batch_shape, dtype=torch.float64)
    value = second.clamp(max=1).to(operator.device, operator.dtype)  # a float32 row sums to 1 up to rounding
    steps = torch.zeros(operator.batch_shape, dtype=torch.long, device=operator.device)
    return SecondEigenvalue(value, torch.ones_like(steps, dtype=torch.bool), steps, torch.zeros_like(value))


def _squared(operator: TransitionOperator, squarings: int) -> SecondEigenvalue:
    matrix = operator.to_dense()
    power = matrix - matrix.mean(-1, keepdim=True)
    logs = [_log_norm(power)]  # of the powers themselves; what is multiplied is scaled to 1
    with full_precision(operator.device):
        for _ in range(squarings):
            power = power / _log_norm(power).exp()
            power = power @ power
            logs.append(2 * logs[-1] + _log_norm(power))
    before, value = (
        ((logs[i + 1] - logs[i]) / 2**i).exp().clamp(max=1).view(operator.batch_shape)
        for i in (squarings - 2, squarings - 1)
    )
    steps = torch.zeros(operator.batch_shape, dtype=torch.long, device=operator.device)
    return SecondEigenvalue(value, torch.ones_like(steps, dtype=torch.bool), steps, (value - before).abs())


def _log_norm(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch 1 1"]:
    norm = torch.linalg.matrix_norm(matrix, keepdim=True)
    return norm.clamp_min(torch.finfo(norm.dtype).tiny).log()


def _iterate(operator: TransitionOperator, solver: Arnoldi) -> SecondEigenvalue:
    krylov = Krylov(operator, min(solver.basis, operator.n))
    eps = torch.finfo(operator.dtype).eps
    moving = torch.arange(krylov.chains)  # positions in the flattened batch
    value = residual = torch.zeros(krylov.chains, dtype=torch.float64)
    steps = torch.zeros(krylov.chains, dtype=torch.long)
    while len(moving) > 0 and krylov.products < solver.max_steps:
        krylov.extend(max(1, solver.basis // CHECKS))
        moduli, residuals, kept = krylov.leading(solver.keep)
        value, residual = value.index_copy(0, moving, moduli), residual.index_copy(0, moving, residuals)
        steps[moving] = krylov.products
        active = ~(residuals <= solver.tol * moduli + eps) & (not krylov.complete)
        if krylov.full and active.any():
            krylov.restart(kept)
        if not active.all():
            moving = moving[active]
            krylov.select(active.nonzero().squeeze(-1))
    converged = torch.ones_like(steps, dtype=torch.bool).index_fill(0, moving, False)
    shape, device = operator.batch_shape, operator.device
    return SecondEigenvalue(
        # A float32 row sums to 1 up to rounding.
        value=value.clamp(max=1).view(shape).to(device, operator.dtype),
        converged=converged.view(shape).to(device),
        steps=steps.view(shape).to(device),
        residual=residual.view(shape).to(device, operator.dtype),
    )


def _failure(result: SecondEigenvalue, solver: Arnoldi) -> str:
    failed = ~result.converged
    worst = float(result.residual[failed].max())
    return (
        f"Arnoldi: {int(failed.sum())} of {failed.numel()} chains did not reach tol={solver.tol:g} in "
        f"{solver.max_steps} products, largest residual {worst:.3g}; raise tol or max_steps, or pass "
        "solver=Arnoldi(raise_on_failure=False): where many eigenvalues have nearly the second modulus, as "
        "in noise, it is good to a percent long before"
    )
