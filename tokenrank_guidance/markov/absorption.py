"""Where walks are caught."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.checks import is_number
from tokenrank_guidance.errors import ConvergenceError
from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.operator import TransitionOperator, token_index
from tokenrank_guidance.markov.parts import in_parts
from tokenrank_guidance.markov.shapes import broadcast_shapes
from tokenrank_guidance.markov.solvers import Iteration, MinimalResidual, Stationary

SOLVER = MinimalResidual(tol=1e-6)


def absorption(
    maps: Maps,
    targets: Float[Tensor, "*targets n"],
    among: Int[Tensor, " k"] | Bool[Tensor, " n"],
    survival: float = 1.0,
    solver: Iteration = SOLVER,
) -> Float[Tensor, "*out k"]:
    """The chance that a walk from each token of ``among`` is caught at the targets:
    ``h = (I - s P_AA)⁻¹ P_A t``, without a matrix.

    A walk goes along attention while it is among these tokens; any other token ends it, and counts by its
    value in ``targets``, 0 to 1, over all n tokens, where those of ``among`` must be 0. ``survival`` is s, in
    (0, 1]: the chance that a walk goes on at all after a step that stays; at 1 it walks until it leaves, and
    a set that no walk leaves is a `ConvergenceError`, or takes many steps. Heads are chains of their own: mix
    them before. Returns the chances in the order of ``among``. Source: absorbing chains, Kemeny and Snell
    1960, ch. 3.
    """
    operator = as_operator(maps)
    index = token_index(among, operator.n).to(operator.device)
    if not (is_number(survival) and 0 < survival <= 1):
        raise ValueError(f"survival: got {survival!r}, expected a number in (0, 1]")
    caught = targets.to(operator.device, operator.dtype)
    if caught.shape[-1:] != (operator.n,) or not bool(((caught >= 0) & (caught <= 1)).all()):
        raise ValueError(f"targets: shape {tuple(caught.shape)}, expected (..., {operator.n}) of 0 to 1")
    if bool(caught[..., index].any()):
        raise ValueError("targets: among the tokens that are walked over, expected none of them")

    def solve(part: TransitionOperator, caught: Float[Tensor, "*own n"]) -> Stationary:
        def staying(h: Float[Tensor, "*h k"]) -> Float[Tensor, "*h k"]:
            whole = h.new_zeros(*h.shape[:-1], part.n).index_copy(-1, index, h)
            return survival * part.apply_transpose(whole)[..., index]

        at_once = part.apply_transpose(caught)[..., index]
        share = at_once.sum(-1, keepdim=True).clamp_min(torch.finfo(at_once.dtype).tiny)
        result = solver.run(staying, at_once / share, at_once / share)
        return replace(result, value=(share * result.value).clamp(0, 1))

    lead = broadcast_shapes(caught.shape[:-1], operator.batch_shape)
    result = in_parts(operator, solve, caught.expand(*lead, operator.n))
    if solver.raise_on_failure and not bool(result.converged.all()):
        raise ConvergenceError(
            f"absorption: no end {solver.effort}, residual {float(result.residual.max()):.3g}; walks hardly "
            "leave these tokens: lower survival"
        )
    return result.value
