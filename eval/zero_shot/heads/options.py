"""The arguments of `python -m eval.zero_shot.heads`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from diffseg.zero_shot.options import MOST_DRAWS, Options, make_options
from eval.zero_shot.heads.choices import MAPS
from eval.zero_shot.options import CAPTION, template, timesteps
from tokenrank_guidance.option_groups import add_device_arguments, refuse_without_effect
from tokenrank_guidance.options import at_least, between, existing, folder, named, names, positive
from tokenrank_guidance.program import parser_of

CHANGES = ("timesteps", "draws", "seed")
OF_PIPE = ("caption", *CHANGES)
DESCRIPTION = (
    "Measures λ2 of every head and the heat map of that head alone against the objects' masks, and how the "
    "two are ranked together. Prints JSON; the folder gets report.json, heads.png, heads.svg, and a journal "
    "from which an interrupted run resumes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.zero_shot.heads", DESCRIPTION)
    _add_inputs(parser)
    _add_reading(parser)
    group = parser.add_argument_group("running")
    group.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of the first draw of noise; 0")
    add_device_arguments(group)
    arguments = parser.parse_args(argv)
    if arguments.vit is not None:
        refuse_without_effect(arguments, OF_PIPE, "a --vit is read once, from its class token, without noise")
    arguments.caption = arguments.caption or CAPTION
    return arguments


def options_of(arguments: Namespace) -> Options:
    """The passes."""
    changes = {name: getattr(arguments, name) for name in CHANGES if getattr(arguments, name) is not None}
    return make_options(changes | {"resolution": arguments.size})


def _add_inputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model and data")
    model = group.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--pipe", type=named, metavar="NAME|PATH|HUB_ID", help="tiny-flux, a FLUX or SD3: from the word"
    )
    model.add_argument(
        "--vit", type=named, metavar="PATH|HUB_ID", help="a vision transformer: from the class token"
    )
    group.add_argument(
        "--data", type=named, required=True, metavar="DATA", help="as for python -m eval.zero_shot"
    )
    group.add_argument("--split", type=named, help="of the folder")
    group.add_argument(
        "--concept", type=named, metavar="WORD", help="the object's name, where the data have no labels"
    )
    group.add_argument("--names", type=existing, metavar="FILE", help="names of the objects, one a line")
    group.add_argument("--rows", choices=("all", "even", "odd"), default="all", help="default: %(default)s")
    group.add_argument("--limit", type=positive, metavar="N", help="the first N of these rows")
    group.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="√(pixels) worked at; 128 for tiny-…, 224 for a ViT",
    )


def _add_reading(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("heads")
    group.add_argument(
        "--maps", type=names(MAPS), default=MAPS, metavar="NAMES", help=f"of {', '.join(MAPS)}; all"
    )
    group.add_argument("--caption", type=template, help=f"default: {CAPTION}")
    group.add_argument("--timesteps", type=timesteps, metavar="LIST", help="of 1000; 500")
    group.add_argument(
        "--draws", type=between(1, MOST_DRAWS), metavar="N", help="of noise, at each timestep; 5"
    )
