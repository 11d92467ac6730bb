"""The arguments of `python -m eval.zero_shot`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from diffseg.zero_shot.options import BACKGROUND, MOST_BOUNCES, MOST_DRAWS, Mix, Options, make_options
from eval import arguments
from eval.arguments import option
from eval.zero_shot.arms import ARMS, DIRECTIONS, WALKING
from eval.zero_shot.protocol import PROTOCOLS
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import between, finite, names, words

SUMMARY = "Segments from words, against masks."
CAPTION = "a {name}"
PLACE = "{name}"
MOST_CURVE = 100
CHANGES = ("direction", "mix", "damping", "layers", "timesteps", "draws", "background", "blur", "seed")
BOUNCING = ("bounce", "image-bounce", "keyed")
RENAMED = {"--pipe": "model", "--n": "bounces"}


def template(text: str) -> str:
    """A parser of captions with a place for the name."""
    if PLACE not in text:
        raise ArgumentTypeError(f"got {text!r}; expected a caption with {PLACE} in it")
    return text


def captioned(caption: str, word: str) -> str:
    """The caption with the word in its place; other braces are text (`str.format` would read attributes)."""
    return caption.replace(PLACE, word)


@dataclass(frozen=True, kw_only=True)
class Noising:
    """Which noise a picture gets before it is read."""

    TITLE: ClassVar[str] = "noise"

    timesteps: tuple[int, ...] | None = arguments.timesteps("500")
    draws: int | None = option(type=between(1, MOST_DRAWS), metavar="N", help="of noise, at each timestep; 5")


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions(arguments.Running, Noising, arguments.ObjectNames, arguments.Inputs):
    """Segments the object of each picture from the word for it and measures the heat maps against the masks.
    Prints JSON; the folder gets report.json, table.md, curve.png, the pictures that went worst and best, and
    a journal from which an interrupted run resumes.
    """

    TITLE: ClassVar[str] = "methods"

    model: str = arguments.model("tiny-flux, tiny-sd, a FLUX, SD3 or UNet")
    data: str = arguments.data(
        "parquet file with masks and labels, folder of images and masks, imagenet-seg:MAT or voc:ROOT"
    )
    size: int | None = arguments.size("128 for tiny-…")
    methods: tuple[str, ...] | None = option(
        type=names(ARMS),
        metavar="NAMES",
        help=f"of {', '.join(ARMS)}; what was published, and image-bounce-lambda2",
    )
    curve: int = option(
        10, type=between(0, MOST_CURVE), metavar="N", help="bounces 1 to N, in both directions; 10"
    )
    protocol: str = option(
        "own-size",
        choices=tuple(PROTOCOLS),
        help="sizes and resampling of published runs; default: %(default)s",
    )
    caption: str = option(CAPTION, type=template, help="default: %(default)s")
    bounces: int | None = option(type=between(1, MOST_BOUNCES), metavar="N", help="of what bounces; 2")
    direction: str | None = option(choices=DIRECTIONS, help="of bounce; outgoing")
    mix: str | None = option(choices=get_args(Mix), help="what becomes one chain; layers")
    damping: float | None = option(type=finite, metavar="D", help="of each step; 1, none")
    layers: arguments.Layers | None = arguments.layers("auto, the late ones, if left out")
    background: tuple[str, ...] | None = option(
        type=words,
        metavar="WORDS",
        help=f"of concept-attention; {','.join(BACKGROUND)}, and for tiny-… its other labels",
    )
    blur: float | None = option(type=finite, metavar="SIGMA", help="of concept-attention; 0")
    pictures: int = arguments.pictures(4, "worst and best, of each")

    @property
    def common(self) -> Options:
        """What all methods have in common."""
        size = self.size or PROTOCOLS[self.protocol].resolution
        changes = arguments.chosen(self, CHANGES) | {"resolution": size}
        if self.bounces is not None:
            changes["n"] = self.bounces
        if self.layers == ("default",):  # as auto was called before
            changes["layers"] = "auto"
        return make_options(changes)


def parse(argv: Sequence[str]) -> ZeroShotOptions:
    """Read the arguments; ValueError for a mistake, and for options that no chosen method reads."""
    asked = arguments.read(ZeroShotOptions, "python -m eval.zero_shot", argv, RENAMED)
    if asked.methods is None:
        return asked  # which ones then, depends on the model
    used = {name: ARMS[name]["method"] for name in asked.methods}
    if not set(used.values()) & set(BOUNCING):
        refuse_without_effect(asked, ["bounces"], "no method among --methods bounces")
    if not any(method == "bounce" and "direction" not in ARMS[name] for name, method in used.items()):
        refuse_without_effect(asked, ["direction"], "no bounce among --methods leaves it open")
    walking = [ARMS[name] for name in asked.methods if name in WALKING]
    if not walking and not asked.curve:
        refuse_without_effect(asked, ["damping"], "no method among --methods walks, and --curve is 0")
    if all("mix" in arm for arm in walking) and not asked.curve:
        refuse_without_effect(asked, ["mix"], "no walk among --methods leaves it open, and --curve is 0")
    if "concept-attention" not in asked.methods:
        refuse_without_effect(asked, ["background", "blur"], "concept-attention is not among --methods")
    return asked
