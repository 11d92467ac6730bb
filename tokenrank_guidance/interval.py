"""A figure and how sure it is: the one shape of both in every result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

LEVEL = 0.95
Z = 1.959963984540054  # the standard normal's 97.5 % quantile


@dataclass(frozen=True)
class Interval:
    """A value from `n` images with its 95 % interval, whose ends are NaN where `n` is too small for one."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, object]:
        """A figure in any report: {"value": v, "ci": [low, high], "n": images}.

        `ci` is the 95 % interval, null at both ends where there are too few images.
        """
        ends = [None if math.isnan(end) else end for end in (self.low, self.high)]
        return {"value": self.value, "ci": ends, "n": self.n}

    def ends(self, form: str = ".3f") -> str:
        """The interval as text."""
        if math.isnan(self.low):
            return "(no interval)"
        return f"[{self.low:{form}}, {self.high:{form}}]"


def difference(a: str, b: str, metrics: Mapping[str, Interval]) -> dict[str, object]:
    """Two arms of any report compared: {"a": arm, "b": arm, "metrics": {name: figure}}.

    Each figure is that of the first arm less that of the second on the same images.
    """
    return {"a": a, "b": b, "metrics": {name: figure.to_json() for name, figure in metrics.items()}}


def wilson(successes: int, n: int) -> Interval:
    """The share p = successes / n with Wilson's score interval.

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n). Raises ValueError unless 0 ≤ successes ≤ n and n ≥ 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"got {successes} successes of {n}")
    share, z2 = successes / n, Z**2 / n
    centre = share + z2 / 2
    reach = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n))
    low, high = (centre - reach) / (1 + z2), (centre + reach) / (1 + z2)
    return Interval(share, 0.0 if successes == 0 else low, 1.0 if successes == n else high, n)
