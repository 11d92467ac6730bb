"""Several heads, one chain."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.distribution import as_head_weights
from tokenrank_guidance.markov.krylov import Arnoldi
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.parts import in_parts
from tokenrank_guidance.markov.spectrum import second_eigenvalue, spectrum_solver

# A weight needs two digits, and in a head of noise, whose eigenvalues crowd, the third is dear.
ROUGH = Arnoldi(tol=1e-3, max_steps=200, raise_on_failure=False)

HeadWeights = Literal["mean", "lambda2"] | Float[Tensor, "..."] | None


def lambda2_head_weights(maps: Maps) -> Float[Tensor, "*batch heads"]:
    """``w_h = lambda2_h / sum_h lambda2_h``: slowly mixing heads, which hold structure, count more.

    ``lambda2_h`` is the `rough_second_eigenvalue` of head h, a constant to derivatives. Uniform where all are
    zero. ``ValueError`` without a head axis.
    Source: arXiv 2507.17657, which does not print the normalisation.
    """
    operator = as_operator(maps)
    moduli = rough_second_eigenvalue(operator)
    structureless = (moduli == 0).all(-1, keepdim=True)
    return as_head_weights(torch.where(structureless, 1.0, moduli), operator)


def rough_second_eigenvalue(maps: Maps) -> Float[Tensor, "*batch"]:
    """`second_eigenvalue` to the two digits that a weight or a picture needs, by at most 200 products."""
    return in_parts(as_operator(maps), lambda part: second_eigenvalue(part, spectrum_solver(part, ROUGH)))


def mix_heads(maps: Maps, head_weights: HeadWeights = "mean") -> TransitionOperator:
    """One chain ``sum_h w_h P_h`` over the head axis, which is the last batch axis.

    ``"mean"`` weighs heads equally, ``"lambda2"`` by `lambda2_head_weights`, a tensor ``(heads,)`` or
    ``(*batch, heads)`` by itself; ``None`` keeps heads apart. A plain ``(n, n)`` chain has no head axis and
    is returned as it is, except that a tensor of weights for it is a ``ValueError``.
    """
    operator = as_operator(maps)
    weights = resolve_head_weights(operator, head_weights)
    return operator if weights is None else operator.mix(weights)


def resolve_head_weights(
    operator: TransitionOperator, head_weights: HeadWeights
) -> Float[Tensor, "*batch heads"] | None:
    """Turn a choice of weights into weights that sum to 1, or ``None`` where no heads are to be mixed."""
    if isinstance(head_weights, Tensor):
        return as_head_weights(head_weights, operator)
    if head_weights not in ("mean", "lambda2", None):
        raise ValueError(f"head_weights: got {head_weights!r}, expected 'mean', 'lambda2', None or a tensor")
    if head_weights is None or not operator.batch_shape:
        return None
    if head_weights == "lambda2":
        return lambda2_head_weights(operator)
    even = torch.full((1,), 1 / operator.batch_shape[-1], dtype=operator.dtype, device=operator.device)
    return even.expand(operator.batch_shape)
