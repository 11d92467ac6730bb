"""What can be chosen in a zero-shot segmentation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tokenrank_guidance.checks import is_damping, is_number, is_one_of, is_seed, is_whole, names_layers
from tokenrank_guidance.memory import HELD_BYTES

Method = Literal[
    "bounce",
    "row",
    "column",
    "keyed",
    "image-bounce",
    "absorbing",
    "tokenrank",
    "rollout",
    "concept-attention",
    "daam",
]
Mix = Literal["chain", "layers", "heads"]
METHODS: tuple[str, ...] = get_args(Method)
MOST_BOUNCES, MOST_DRAWS = 1000, 1000
BACKGROUND = ("background", "floor", "tree", "person", "grass", "face")
RENAMED_MIX = {"before": "layers", "after": "heads"}  # their names before version 0.2
Layers = str | int | Sequence[str | int]


@dataclass(frozen=True)
class Options:
    """How a heat map comes from attention, and which passes attention is taken from.

    method: "image-bounce", column select and n − 1 incoming steps within the image, which found objects best
    on rows that had no part in its choice; "bounce", `n` steps of the chain from the word's tokens in
    `direction`; "row" and "column", one step outgoing and incoming; "keyed", `n` steps outgoing over softmax
    across queries, rows normalised; "absorbing", the chance that a walk within the image, of which `survival`
    goes on at each step, ends at the word; "tokenrank", the limit of many damped steps, the same for every
    word; "rollout", attention rollout from the word's row; "concept-attention", output space (FLUX and SD3
    alone); "daam", mean cross-attention (UNets alone).
    head_weights: "lambda2" or "mean"; mix: all heads of all layers and passes become one "chain" before the
    walk; or those of each layer do ("layers"), and ends are averaged; or each of the "heads" walks alone.
    damping: the chance of a step to go along attention and not to any token; 1 for always.
    layers: "auto" (see `diffseg.zero_shot.layers`), "all", names or indices as in `capture`.
    timesteps: of 1,000, for given images; each is noised `draws` times, from the seeds seed, seed + 1, ….
    background: what concept-attention's softmax has beside the concepts; blur: σ of its 3×3 Gaussian, 0 for
    none (the published script has 1).
    resolution: √(pixels) that the model works at, None for its own.
    lambda2_tol: relative residual of λ2; memory: bytes of matrices that a layer may hold, 0 for none.
    """

    method: Method = "image-bounce"
    n: int = 2
    direction: Literal["outgoing", "incoming"] = "outgoing"
    head_weights: Literal["lambda2", "mean"] = "lambda2"
    mix: Mix = "layers"
    damping: float = 1.0
    survival: float = 0.5
    layers: Layers = "auto"
    timesteps: tuple[int, ...] = (500,)
    draws: int = 5
    background: tuple[str, ...] = BACKGROUND
    blur: float = 0.0
    resolution: int | None = None
    seed: int = 0
    lambda2_tol: float = 1e-3
    memory: int = HELD_BYTES

    def __post_init__(self) -> None:
        if isinstance(self.mix, str) and self.mix in RENAMED_MIX:
            now = RENAMED_MIX[self.mix]
            warnings.warn(f"mix={self.mix!r} is now called {now!r}", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "mix", now)
        if isinstance(self.layers, str) and self.layers == "default":
            warnings.warn('layers="default" is now called "auto"', DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "layers", "auto")
        for name, holds, expected in (
            ("method", is_one_of(self.method, METHODS), f"one of {', '.join(METHODS)}"),
            (
                "n",
                _up_to(self.n, MOST_BOUNCES),
                f"a whole number ≥ 1, at most {MOST_BOUNCES}; tokenrank is its limit",
            ),
            ("direction", is_one_of(self.direction, ("outgoing", "incoming")), "'outgoing' or 'incoming'"),
            (
                "direction",
                self.direction == "outgoing" or self.method == "bounce",
                f"'outgoing', as {self.method!r} has no direction: \"bounce\" has",
            ),
            ("head_weights", is_one_of(self.head_weights, ("lambda2", "mean")), "'lambda2' or 'mean'"),
            ("mix", is_one_of(self.mix, get_args(Mix)), "'chain', 'layers' or 'heads'"),
            ("damping", _share(self.damping), "a number in (0, 1]"),
            ("survival", _share(self.survival), "a number in (0, 1]"),
            ("layers", names_layers(self.layers), "'auto', 'all', a name or index, or some of them"),
            ("timesteps", self._timesteps_fit(), "whole numbers in [0, 1000)"),
            ("draws", _up_to(self.draws, MOST_DRAWS), f"a whole number ≥ 1, at most {MOST_DRAWS}"),
            ("background", isinstance(self.background, tuple) and all(map(_word, self.background)), "words"),
            ("blur", is_number(self.blur) and self.blur >= 0, "a number ≥ 0"),
            ("resolution", self.resolution is None or is_whole(self.resolution), "None or pixels ≥ 1"),
            ("seed", self._seeds_fit(), "a whole number in [0, 2^63 − draws)"),
            ("lambda2_tol", is_damping(self.lambda2_tol), "a number in (0, 1)"),
            ("memory", is_whole(self.memory, 0), "bytes ≥ 0"),
        ):
            if not holds:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")

    def _seeds_fit(self) -> bool:
        return is_seed(self.seed) and is_whole(self.draws) and is_seed(self.seed + self.draws)

    def _timesteps_fit(self) -> bool:
        if not isinstance(self.timesteps, tuple) or not self.timesteps:
            return False
        return all(is_whole(one, 0) and one < 1000 for one in self.timesteps)


def leads_out(options: Options) -> bool:
    """Whether its walk goes along attention from the words on, and not to those who attend to them."""
    return options.method not in ("image-bounce", "column", "absorbing", "concept-attention", "daam") and (
        options.direction == "outgoing"
    )


def make_options(changes: dict[str, Any]) -> Options:
    """The defaults with some fields changed; a direction without a method is that of "bounce".

    ValueError for an unknown field, and for a direction of a method that has none.
    """
    unknown = sorted(set(changes) - set(Options.__dataclass_fields__))
    if unknown:
        known = ", ".join(Options.__dataclass_fields__)
        raise ValueError(f"unknown option {', '.join(unknown)}; expected some of {known}")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
    }
    if "direction" in fields and fields.setdefault("method", "bounce") != "bounce":
        raise ValueError(
            f"direction: got {fields['direction']!r} for {fields['method']!r}, "
            "expected it with 'bounce' alone"
        )
    return Options(**fields)


def _up_to(value: object, most: int) -> bool:
    return is_whole(value) and value <= most


def _share(value: object) -> bool:
    return is_number(value) and 0 < value <= 1  # type: ignore[operator]


def _word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
