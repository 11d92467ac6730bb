"""Checks that turn user input into distributions, each naming what was got and what was expected."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tokenrank_guidance.markov.deferred import require
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.shapes import broadcasts, expands


def normalise(values: Shaped[Tensor, "*batch k"], name: str) -> Float[Tensor, "*batch k"]:
    """Divide by the sum over the last axis; ``ValueError`` unless finite, non-negative and not all zero."""
    if values.numel() == 0:
        raise ValueError(f"{name}: shape {tuple(values.shape)} holds no values")
    peak = values.amax(-1, keepdim=True)  # NaN, if there is one
    bounds = torch.stack([*values.aminmax(), peak.min()])
    low, high, lowest_peak = bounds
    holds = (low >= 0) & (high < math.inf) & (lowest_peak != 0)
    require(holds, lambda: _not_weights(bounds, name))
    scaled = values / peak  # the sum of huge or tiny weights stays in range
    return scaled / scaled.sum(-1, keepdim=True)


def _not_weights(bounds: Shaped[Tensor, "3"], name: str) -> ValueError:
    low, high, _ = bounds.tolist()
    if not (low >= 0 and high < math.inf):
        return ValueError(f"{name}: values in [{low:.4g}, {high:.4g}], expected finite, non-negative ones")
    return ValueError(f"{name}: all zero, expected some positive weight to normalise")


def as_values(values: Any, name: str) -> Shaped[Tensor, "..."]:
    """A tensor, or a copy of what can be one: a number, a NumPy array, lists of numbers."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.as_tensor(values.copy() if isinstance(values, np.ndarray) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: got {type(values).__name__}, expected a tensor, or numbers") from error


def as_distribution(values: Any, operator: TransitionOperator, name: str) -> Float[Tensor, "..."]:
    """Normalise weights ``(..., n)`` over tokens, whose leading axes broadcast with the batch, to sum 1."""
    values = as_values(values, name)
    if values.shape[-1:] != (operator.n,) or not broadcasts(values.shape[:-1], operator.batch_shape):
        raise ValueError(
            f"{name}: shape {tuple(values.shape)}, expected (..., {operator.n}) with leading axes that "
            f"broadcast with the chain's batch {operator.batch_shape}"
        )
    return normalise(values.to(operator.device, operator.dtype), name)


def as_head_weights(
    weights: Shaped[Tensor, "..."], operator: TransitionOperator
) -> Float[Tensor, "*batch heads"]:
    """Normalise weights ``(heads,)`` or ``(*batch, heads)`` over heads, the operator's last batch axis."""
    batch = operator.batch_shape
    if not batch:
        raise ValueError(
            f"head_weights: chain of shape {operator.shape} has no head axis, expected (..., heads, n, n)"
        )
    if weights.shape[-1:] != batch[-1:] or not expands(weights.shape, batch):
        raise ValueError(f"head_weights: shape {tuple(weights.shape)}, expected ({batch[-1]},) or {batch}")
    return normalise(weights.to(operator.device, operator.dtype), "head_weights").expand(batch)
