"""What is compared: methods by name, and the bounces of the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffseg.zero_shot import Options

Changes = dict[str, Any]
ARMS: dict[str, Changes] = {
    "row": {"method": "row", "head_weights": "mean"},
    "column": {"method": "column", "head_weights": "mean"},
    "rollout": {"method": "rollout", "head_weights": "mean"},
    "daam": {"method": "daam"},
    "concept-attention": {"method": "concept-attention"},
    "bounce": {"method": "bounce", "head_weights": "mean"},
    "bounce-lambda2": {"method": "bounce", "head_weights": "lambda2"},
    "incoming": {"method": "bounce", "head_weights": "mean", "direction": "incoming"},
    "incoming-lambda2": {"method": "bounce", "head_weights": "lambda2", "direction": "incoming"},
    "keyed": {"method": "keyed", "head_weights": "mean"},
    "keyed-lambda2": {"method": "keyed", "head_weights": "lambda2"},
    "image-bounce": {"method": "image-bounce", "head_weights": "mean"},
    "image-bounce-lambda2": {"method": "image-bounce", "head_weights": "lambda2"},
    "absorbing": {"method": "absorbing", "head_weights": "mean"},
    "absorbing-lambda2": {"method": "absorbing", "head_weights": "lambda2"},
    "absorbing-to-the-end": {"method": "absorbing", "head_weights": "mean", "survival": 1.0},
}
WALKS = tuple(name for name in ARMS if name not in ("rollout", "daam", "concept-attention"))
# The same over one chain of all layers and passes.
ARMS |= {f"{name}-chain": ARMS[name] | {"mix": "chain"} for name in WALKS}
WALKING = frozenset(name for name in ARMS if name.removesuffix("-chain") in WALKS)
# Where none is named: what was published, and the walk that `diffseg.zero_shot.segment` takes.
JOINT_ARMS = (
    "row",
    "column",
    "rollout",
    "concept-attention",
    "bounce",
    "bounce-lambda2",
    "image-bounce-lambda2",
)
UNET_ARMS = ("daam", "bounce", "bounce-lambda2", "image-bounce-lambda2")  # "column" is daam there
CURVE = "curve"
DIRECTIONS = ("outgoing", "incoming")


@dataclass(frozen=True)
class Arm:
    """One way to make a heat map; `key` names it in the journal."""

    name: str
    options: Options

    @property
    def key(self) -> str:
        return self.name


def named_arms(names: Sequence[str], common: Options) -> list[Arm]:
    """The arms of these names, with the common options for the rest."""
    return [Arm(name, replace(common, **ARMS[name])) for name in names]


def curve_arms(most: int, common: Options) -> list[Arm]:
    """One bounce up to `most` in each direction, with the heads weighted by λ2; none for 0."""
    base = replace(common, method="bounce", head_weights="lambda2")
    return [
        Arm(f"{CURVE}-{direction}-{n}", replace(base, n=n, direction=direction))
        for direction in DIRECTIONS
        for n in range(1, most + 1)
    ]
