"""The arguments of `python -m eval.zero_shot`."""

from __future__ import annotations

from argparse import ArgumentTypeError, _ArgumentGroup
from collections.abc import Sequence
from dataclasses import dataclass

from diffseg.zero_shot.options import BACKGROUND, MOST_BOUNCES, MOST_DRAWS, Options, make_options
from eval import arguments
from eval.zero_shot.arms import ARMS, DIRECTIONS
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import between, finite, names, words
from tokenrank_guidance.program import parser_of

CAPTION = "a {name}"
PLACE = "{name}"
MOST_CURVE = 100
CHANGES = ("direction", "mix", "timesteps", "draws", "background", "blur", "seed")
RENAMED = {"--pipe": "--model", "--n": "--bounces"}
DESCRIPTION = (
    "Segments the object of each picture from the word for it and measures the heat maps against the masks. "
    "Prints JSON; the folder gets report.json, table.md, curve.png, the pictures that went worst and best, "
    "and a journal from which an interrupted run resumes."
)


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions(arguments.Inputs, arguments.ObjectNames, arguments.Running):
    """What is asked; of what the methods have in common, None is the default of `Options`."""

    size: int | None
    methods: tuple[str, ...] | None
    curve: int
    caption: str
    bounces: int | None
    direction: str | None
    mix: str | None
    layers: arguments.Layers | None
    timesteps: tuple[int, ...] | None
    draws: int | None
    background: tuple[str, ...] | None
    blur: float | None
    pictures: int

    @property
    def common(self) -> Options:
        """What all methods have in common."""
        changes = arguments.chosen(self, CHANGES) | {"resolution": self.size}
        if self.bounces is not None:
            changes["n"] = self.bounces
        if self.layers not in (None, "auto"):
            changes["layers"] = self.layers
        return make_options(changes)


def parse(argv: Sequence[str]) -> ZeroShotOptions:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.zero_shot", DESCRIPTION)
    group = arguments.add_inputs(
        parser,
        "tiny-flux, tiny-sd, a FLUX, SD3 or UNet",
        "parquet file with masks and labels, folder of images and masks, imagenet-seg:MAT or voc:ROOT",
    )
    arguments.add_object_names(group)
    arguments.add_size(group, "128 for tiny-…")
    group = parser.add_argument_group("methods")
    _add_methods(group)
    add_noising(group)
    group = arguments.add_running(parser, "the first draw of noise")
    arguments.add_pictures(group, 4, "worst and best, of each")
    asked = ZeroShotOptions(**vars(arguments.read(parser, argv, RENAMED)))
    _check(asked)
    return asked


def add_noising(group: _ArgumentGroup) -> None:
    """Which noise a picture gets before it is read."""
    arguments.add_timesteps(group, "500")
    group.add_argument(
        "--draws", type=between(1, MOST_DRAWS), metavar="N", help="of noise, at each timestep; 5"
    )


def template(text: str) -> str:
    """A parser of captions with a place for the name."""
    if PLACE not in text:
        raise ArgumentTypeError(f"got {text!r}; expected a caption with {PLACE} in it")
    return text


def captioned(caption: str, word: str) -> str:
    """The caption with the word in its place; other braces are text (`str.format` would read attributes)."""
    return caption.replace(PLACE, word)


def _check(asked: ZeroShotOptions) -> None:
    """ValueError for options that no chosen method reads."""
    if asked.methods is None:
        return  # which ones then, depends on the model
    chains = {name for name in asked.methods if ARMS[name]["method"] == "bounce"}
    if not chains:
        refuse_without_effect(asked, ["bounces"], "no method among --methods bounces")
    if not any("direction" not in ARMS[name] for name in chains):
        refuse_without_effect(asked, ["direction"], "no bounce among --methods leaves it open")
    if "concept-attention" not in asked.methods:
        refuse_without_effect(asked, ["background", "blur"], "concept-attention is not among --methods")


def _add_methods(group: _ArgumentGroup) -> None:
    group.add_argument("--methods", type=names(ARMS), metavar="NAMES", help=f"of {', '.join(ARMS)}")
    group.add_argument(
        "--curve",
        type=between(0, MOST_CURVE),
        default=10,
        metavar="N",
        help="bounces 1 to N, in both directions; 10",
    )
    group.add_argument("--caption", type=template, default=CAPTION, help="default: %(default)s")
    group.add_argument("--bounces", type=between(1, MOST_BOUNCES), metavar="N", help="of bounce; 2")
    group.add_argument("--direction", choices=DIRECTIONS, help="of bounce; outgoing")
    group.add_argument("--mix", choices=("before", "after"), help="heads; before")
    arguments.add_layers(group, "auto, the late ones, if left out")
    group.add_argument(
        "--background",
        type=words,
        metavar="WORDS",
        help=f"of concept-attention; {','.join(BACKGROUND)}, and for tiny-… its other labels",
    )
    group.add_argument("--blur", type=finite, metavar="SIGMA", help="of concept-attention; 0")
