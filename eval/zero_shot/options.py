"""The arguments of `python -m eval.zero_shot`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from diffseg.zero_shot.options import BACKGROUND, Options, make_options
from eval.cli import Parser, at_least, existing, finite, names, positive
from eval.zero_shot.arms import ARMS, DIRECTIONS
from tokenrank_guidance.commands.models import DTYPES
from tokenrank_guidance.commands.options import layer

CHANGES = ("n", "direction", "mix", "layers", "timesteps", "draws", "background", "blur", "seed")
DESCRIPTION = (
    "Segments the object of each picture from the word for it and measures the heat maps against the masks. "
    "Prints JSON; the folder gets report.json, table.md, curve.png, the pictures that went worst and best, "
    "and a journal from which an interrupted run resumes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = Parser(prog="python -m eval.zero_shot", description=DESCRIPTION, allow_abbrev=False)
    _add_inputs(parser)
    _add_methods(parser)
    _add_running(parser)
    return parser.parse_args(argv)


def options_of(arguments: Namespace) -> Options:
    """What all methods have in common."""
    changes = {name: getattr(arguments, name) for name in CHANGES if getattr(arguments, name) is not None}
    return make_options(changes | {"resolution": arguments.size})


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _layers(text: str) -> str | tuple[str | int, ...]:
    return text if text in ("all", "default") else tuple(layer(part) for part in _words(text))


def timesteps(text: str) -> tuple[int, ...]:
    """A parser of timesteps."""
    parts = _words(text)
    if not parts or not all(part.isdecimal() and int(part) < 1000 for part in parts):
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
        "--pipe", required=True, metavar="NAME|PATH|HUB_ID", help="tiny-flux, tiny-sd, a FLUX, SD3 or UNet"
    )
    group.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="parquet file with masks and labels, folder of images and masks, imagenet-seg:MAT or voc:ROOT",
    )
    group.add_argument("--split", help="of the folder")
    group.add_argument("--concept", metavar="WORD", help="the object's name, where the data have no labels")
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
        "--curve", type=at_least(0), default=10, metavar="N", help="bounces 1 to N, in both directions; 10"
    )
    group.add_argument("--caption", type=template, default="a {name}", help="default: %(default)s")
    group.add_argument("--n", type=positive, metavar="N", help="bounces; 2")
    group.add_argument("--direction", choices=DIRECTIONS, help="of bounce; outgoing")
    group.add_argument("--mix", choices=("before", "after"), help="heads; before")
    group.add_argument("--layers", type=_layers, metavar="LAYERS", help="default, all, indices or names")
    group.add_argument("--timesteps", type=timesteps, metavar="LIST", help="of 1000; 500")
    group.add_argument("--draws", type=positive, metavar="N", help="of noise, at each timestep; 5")
    words = ",".join(BACKGROUND)
    group.add_argument(
        "--background",
        type=_words,
        metavar="WORDS",
        help=f"of concept-attention; {words}, and for tiny-… its other labels",
    )
    group.add_argument("--blur", type=finite, metavar="SIGMA", help="of concept-attention; 0")


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--pictures", type=at_least(0), default=4, metavar="N", help="worst and best, of each")
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of the first draw of noise; 0")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; the GPU where there is one")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="the model's; default: %(default)s")
