"""Many chains, some at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.operator import TransitionOperator

Result = TypeVar("Result")


def in_parts(
    operator: TransitionOperator,
    run: Callable[..., Result],
    *vectors: Float[Tensor, "*batch n"],
) -> Result:
    """``run(operator, *vectors)``, on as many chains at a time as are best in memory together.

    For work of many products with each chain for itself: one with a matrix in memory takes a tenth of the
    time of one from queries and keys, and one with a matrix in the cache half of that. What all chains
    together cannot hold, a few at a time can. The vectors have the batch's axes before the last one and may
    have others before these. `run` gives a tensor or a dataclass of tensors with the same leading axes. At
    once where one matrix does not fit, and where a derivative is wanted, for which each part would be kept.
    """
    batch = operator.batch_shape
    chains = math.prod(batch)
    differentiated = torch.is_grad_enabled() and (
        operator.requires_grad or any(vector.requires_grad for vector in vectors)
    )
    aligned = all(vector.shape[-1 - len(batch) : -1] == batch for vector in vectors)
    if differentiated or not aligned or not 0 < operator.room < chains:
        return run(operator, *vectors)
    lead = vectors[0].ndim - 1 - len(batch) if vectors else 0
    stacks = [vector.reshape(*vector.shape[:lead], chains, -1) for vector in vectors]
    results = []
    for first in range(0, chains, operator.room):
        end = min(first + operator.room, chains)
        part = operator.part(first, end)
        results.append(run(part, *(stack[..., first:end, :] for stack in stacks)))
        del part  # before the next one makes its matrices
    return _joined(results, lead, batch)


def _joined(results: Sequence[Any], lead: int, batch: tuple[int, ...]) -> Any:
    if isinstance(results[0], Tensor):
        return torch.cat([*results], lead).unflatten(lead, batch)
    names = [field.name for field in fields(results[0])]
    whole = {name: _joined([getattr(one, name) for one in results], lead, batch) for name in names}
    return type(results[0])(**whole)
