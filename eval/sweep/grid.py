"""The settings that are tried: scale × threshold × layer × window × every."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass
from itertools import product
from typing import Any

from eval.generate.arms import Arm, parse_arm
from tokenrank_guidance.options import finite

Windows = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Grid:
    """Values of each setting; a setting without any keeps the arm's own, or the guidance's default."""

    scales: tuple[float, ...]
    thresholds: tuple[float, ...] = ()
    layers: tuple[str, ...] = ()
    windows: Windows = ()
    every: tuple[int, ...] = ()

    def arms(self, base: Arm) -> list[Arm]:
        """Every combination, as arms; ArgumentTypeError where one is out of range or the arm lacks it."""
        axes = [
            [{"scale": value} for value in self.scales],
            [{"threshold": value} for value in self.thresholds] or [{}],
            [{"layers": value} for value in self.layers] or [{}],
            [{"start": start, "stop": stop} for start, stop in self.windows] or [{}],
            [{"every": value} for value in self.every] or [{}],
        ]
        combined = ({key: value for part in parts for key, value in part.items()} for parts in product(*axes))
        return list(dict.fromkeys(_with(base, settings) for settings in combined))


def _with(base: Arm, settings: dict[str, Any]) -> Arm:
    pairs = base.text.split(":")[1:]
    kept = [pair for pair in pairs if pair.partition("=")[0] not in settings]
    return parse_arm(":".join([base.name, *kept, *(f"{key}={value}" for key, value in settings.items())]))


def without_scale(arm: Arm) -> Arm:
    """The arm less its scale: what a curve over the scale holds fixed."""
    return Arm(arm.name, tuple(pair for pair in arm.settings if pair[0] != "scale"))


def windows(text: str) -> Windows:
    """A comma-separated list of START:STOP, fractions of the steps."""
    pairs = [part.split(":") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ArgumentTypeError(f"got {text!r}; expected START:STOP, as in 0:1,0.2:0.8")
    return tuple((finite(start), finite(stop)) for start, stop in pairs)
