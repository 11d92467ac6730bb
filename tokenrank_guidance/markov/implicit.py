"""The derivative of a fixed point, from the fixed point alone."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.solvers import Solver


class ImplicitGradient(torch.autograd.Function):
    """Pass on a stationary ``value``, with the derivative of the fixed point it is.

    ``apply(stepped, value, operator, damping, solver)``, where ``stepped`` is one differentiable step
    ``d value P + (1 - d) v``. As ``dx (I - dP) = d x dP + (1 - d) dv``, a gradient g on the value is the
    gradient ``w = g + d P w`` on the step: one solve with the transposed chain. Only ``w`` up to a constant
    matters, as neither a row of P nor v can change its sum. `ConvergenceError` where the solver says so.
    """

    @staticmethod
    def forward(
        ctx: Any, stepped: Tensor, value: Tensor, operator: TransitionOperator, damping: float, solver: Solver
    ) -> Tensor:
        ctx.operator, ctx.damping, ctx.solver = operator, damping, solver
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "*batch n"]) -> tuple[Tensor | None, ...]:
        def propagate(change: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
            return _centred(ctx.damping * ctx.operator.apply_transpose(change))

        grad = _centred(grad)
        size = grad.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
        adjoint = ctx.solver.run(propagate, grad / size, grad / size)
        if ctx.solver.raise_on_failure and not adjoint.converged.all():
            raise ConvergenceError(
                f"gradient of a stationary distribution: {int((~adjoint.converged).sum())} of "
                f"{adjoint.converged.numel()} chains did not reach tol={ctx.solver.tol:g} in "
                f"{ctx.solver.max_steps} steps; raise max_steps or tol, or lower damping"
            )
        return adjoint.value * size, None, None, None, None


def _centred(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    return x - x.mean(-1, keepdim=True)
