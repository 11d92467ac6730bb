"""The arguments of `python -m eval.zero_shot`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from diffseg.zero_shot.options import BACKGROUND, MOST_BOUNCES, MOST_DRAWS, Options, make_options
from eval.zero_shot.arms import ARMS, DIRECTIONS
from tokenrank_guidance.option_groups import add_device_arguments, refuse_without_effect
from tokenrank_guidance.options import (
    at_least,
    between,
    existing,
    finite,
    folder,
    layer,
    named,
    names,
    positive,
    words,
)
from tokenrank_guidance.program import parser_of

CAPTION = "a {name}"
MOST_CURVE = 100
CHANGES = ("n", "direction", "mix", "layers", "timesteps", "draws", "background", "blur", "seed")
DESCRIPTION = (
    "Segments the object of each picture from the word for it and measures the heat maps against the masks. "
    "Prints JSON; the folder gets report.json, table.md, curve.png, the pictures that went worst and best, "
    "and a journal from which an interrupted run resumes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.zero_shot", DESCRIPTION)
    _add_inputs(parser)
    _add_methods(parser)
    _add_running(parser)
    arguments = parser.parse_args(argv)
    _check(arguments)
    return arguments


def options_of(arguments: Namespace) -> Options:
    """What all methods have in common."""
    changes = {name: getattr(arguments, name) for name in CHANGES if getattr(arguments, name) is not None}
    return make_options(changes | {"resolution": arguments.size})


def _check(arguments: Namespace) -> None:
    """ValueError for options that no chosen method reads."""
    if arguments.methods is None:
        return  # which ones then, depends on the model
    chains = {name for name in arguments.methods if ARMS[name]["method"] == "bounce"}
    if not chains:
        refuse_without_effect(arguments, ["n"], "no method among --methods bounces")
    if not any("direction" not in ARMS[name] for name in chains):
        refuse_without_effect(arguments, ["direction"], "no bounce among --methods leaves it open")
    if "concept-attention" not in arguments.methods:
        refuse_without_effect(arguments, ["background", "blur"], "concept-attention is not among --methods")


def _layers(text: str) -> str | tuple[str | int, ...]:
    return text if text in ("all", "default") else tuple(layer(part) for part in words(text))


def timesteps(text: str) -> tuple[int, ...]:
    """A parser of timesteps."""
    parts = words(text)
    if not all(part.isdecimal() and int(part) < 1000 for part in parts):
        raise ArgumentTypeError(f"got {text!r}; expected timesteps of 1000, as 250,500")
    return tuple(int(part) for part in parts)


PLACE = "{name}"


def template(text: str) -> str:
    """A parser of captions with a place for the name."""
    if PLACE not in text:
        raise ArgumentTypeError(f"got {text!r}; expected a caption with {PLACE} in it")
    return text


def captioned(caption: str, word: str) -> str:
    """The caption with the word in its place; other braces are text (`str.format` would read attributes)."""
    return caption.replace(PLACE, word)


def _add_inputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model and data")
    group.add_argument(
        "--pipe",
        type=named,
        required=True,
        metavar="NAME|PATH|HUB_ID",
        help="tiny-flux, tiny-sd, a FLUX, SD3 or UNet",
    )
    group.add_argument(
        "--data",
        type=named,
        required=True,
        metavar="DATA",
        help="parquet file with masks and labels, folder of images and masks, imagenet-seg:MAT or voc:ROOT",
    )
    group.add_argument("--split", type=named, help="of the folder")
    group.add_argument(
        "--concept", type=named, metavar="WORD", help="the object's name, where the data have no labels"
    )
    group.add_argument(
        "--names", type=existing, metavar="FILE", help="the object's name of each picture, one a line"
    )
    group.add_argument("--rows", choices=("all", "even", "odd"), default="all", help="default: %(default)s")
    group.add_argument("--limit", type=positive, metavar="N", help="the first N of these rows")
    group.add_argument(
        "--size", type=positive, metavar="PIXELS", help="√(pixels) that the model works at; 128 for tiny-…"
    )


def _add_methods(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("methods")
    group.add_argument("--methods", type=names(ARMS), metavar="NAMES", help=f"of {', '.join(ARMS)}")
    group.add_argument(
        "--curve",
        type=between(0, MOST_CURVE),
        default=10,
        metavar="N",
        help="bounces 1 to N, in both directions; 10",
    )
    group.add_argument("--caption", type=template, default=CAPTION, help="default: %(default)s")
    group.add_argument("--n", type=between(1, MOST_BOUNCES), metavar="N", help="bounces; 2")
    group.add_argument("--direction", choices=DIRECTIONS, help="of bounce; outgoing")
    group.add_argument("--mix", choices=("before", "after"), help="heads; before")
    group.add_argument("--layers", type=_layers, metavar="LAYERS", help="default, all, indices or names")
    group.add_argument("--timesteps", type=timesteps, metavar="LIST", help="of 1000; 500")
    group.add_argument(
        "--draws", type=between(1, MOST_DRAWS), metavar="N", help="of noise, at each timestep; 5"
    )
    group.add_argument(
        "--background",
        type=words,
        metavar="WORDS",
        help=f"of concept-attention; {','.join(BACKGROUND)}, and for tiny-… its other labels",
    )
    group.add_argument("--blur", type=finite, metavar="SIGMA", help="of concept-attention; 0")


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--pictures", type=at_least(0), default=4, metavar="N", help="worst and best, of each")
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of the first draw of noise; 0")
    add_device_arguments(group)
