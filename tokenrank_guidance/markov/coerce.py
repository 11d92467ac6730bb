"""What the public functions accept as a chain."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.dense import DenseTransition
from tokenrank_guidance.markov.operator import TransitionOperator


@runtime_checkable
class SupportsTransition(Protocol):
    """Anything that can give its chain, such as a captured attention record."""

    def transition(self) -> TransitionOperator:
        """The chain, batch shape ``(batch, heads)``."""
        ...


Maps = TransitionOperator | SupportsTransition | Float[Tensor, "..."]


def as_operator(maps: Maps) -> TransitionOperator:
    """Read an operator, a row-stochastic tensor ``(..., n, n)`` or an attention record as an operator.

    ``TypeError`` for anything else; `DenseTransition` says what makes a tensor a ``ValueError``.
    """
    if isinstance(maps, TransitionOperator):
        return maps
    if isinstance(maps, Tensor):
        return DenseTransition(maps)
    if isinstance(maps, SupportsTransition):
        return maps.transition()
    raise TypeError(
        f"maps: got {type(maps).__name__}, expected an AttentionRecord, a TransitionOperator or a "
        "row-stochastic tensor (..., n, n); take one record of a capture, such as maps[-1]"
    )
