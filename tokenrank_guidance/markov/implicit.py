"""The derivative of a fixed point, from the fixed point alone."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.deferred import require
from tokenrank_guidance.markov.solvers import Adjoint, Solver, centred


class ImplicitGradient(torch.autograd.Function):
    """Pass on a stationary ``value``, with the derivative of the fixed point it is.

    ``apply(stepped, value, adjoint, solver)``, where ``stepped`` is one differentiable step
    ``d value P + (1 - d) v``. As ``dx (I - dP) = d x dP + (1 - d) dv``, a gradient g on the value is the
    gradient ``w = g + d P w`` on the step: one solve with the transposed chain, by ``adjoint``. Only ``w`` up
    to a constant matters, as neither a row of P nor v can change its sum. `ConvergenceError` where ``solver``
    says so.
    """

    @staticmethod
    def forward(ctx: Any, stepped: Tensor, value: Tensor, adjoint: Adjoint, solver: Solver) -> Tensor:
        ctx.adjoint, ctx.solver = adjoint, solver
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "*batch n"]) -> tuple[Tensor | None, ...]:
        grad = centred(grad)
        size = grad.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
        adjoint = ctx.adjoint(grad / size)
        if ctx.solver.raise_on_failure:
            require(adjoint.converged.all(), lambda: _failure(adjoint.converged, ctx.solver))
        return centred(adjoint.value) * size, None, None, None


def _failure(converged: Bool[Tensor, "*batch"], solver: Solver) -> ConvergenceError:
    return ConvergenceError(
        f"gradient of a stationary distribution: {int((~converged).sum())} of {converged.numel()} chains did "
        f"not reach tol={solver.tol:g} {solver.effort}; {solver.advice}"
    )
