"""Whether a value is what a setting takes, whatever was given: no question here raises."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import TypeGuard

ABOVE_SEEDS = 2**63


def is_number(value: object) -> TypeGuard[float]:
    """A finite number that a float can hold, and no truth value."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: object, least: int = 1) -> TypeGuard[int]:
    """A whole number from `least` on."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_seed(value: object) -> TypeGuard[int]:
    """A whole number that torch's generators take: 63 bits."""
    return is_whole(value, 0) and value < ABOVE_SEEDS


def is_damping(value: object) -> TypeGuard[float]:
    """A number in (0, 1)."""
    return is_number(value) and 0 < value < 1


def is_one_of(value: object, known: Collection[str]) -> TypeGuard[str]:
    """One of the known words."""
    return isinstance(value, str) and value in known


def names_layers(value: object) -> bool:
    """A layer's name or index, or a sequence of these; which of them exist the model alone knows."""
    return _names_layer(value) or (isinstance(value, Sequence) and all(map(_names_layer, value)))


def _names_layer(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
