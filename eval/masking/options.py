"""The arguments of `python -m eval.masking`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval.masking.choices import FRACTIONS, MASKS, OF_NO_LAYER, RANDOM, SCORER_NAMES, unknown_scorer
from tokenrank_guidance.option_groups import add_device_arguments, refuse_without_effect
from tokenrank_guidance.options import at_least, existing, folder, fractions, layer, named, positive, words
from tokenrank_guidance.program import parser_of

if TYPE_CHECKING:
    from eval.masking.measure import Masking

FEW_ARMS = 12
DESCRIPTION = (
    "Masks the patches that a ranking calls most influential, at rising fractions, and measures what a "
    "vision transformer still recognises. "
    "Prints JSON; the folder gets report.json, table.md, curves and tokens as "
    "pictures, and a journal from which an interrupted run resumes. Under `accelerate launch` the images are "
    "split among the processes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake, with every known scorer where one is unknown."""
    parser = parser_of("python -m eval.masking", DESCRIPTION)
    _add_inputs(parser)
    _add_rankings(parser)
    _add_running(parser)
    arguments = parser.parse_args(argv)
    _check(arguments)
    arguments.layers = arguments.layers or "auto"
    arguments.seed = arguments.seed or 0
    return arguments


def _check(arguments: Namespace) -> None:
    """ValueError for an unknown scorer, for what cannot be together, and for options without effect."""
    for name in arguments.scorers:
        if name not in SCORER_NAMES:
            raise ValueError(unknown_scorer(name, SCORER_NAMES))
    if all(name in OF_NO_LAYER for name in arguments.scorers):
        refuse_without_effect(
            arguments, ["layers", "layers_from"], "no scorer among --scorers reads one layer"
        )
    if arguments.layers_from is not None:
        refuse_without_effect(arguments, ["layers"], "--layers-from chooses them")
    if RANDOM not in arguments.scorers:
        refuse_without_effect(arguments, ["seed"], f"{RANDOM} is not among --scorers")
    if arguments.mask == "drop" and arguments.inception is not None:
        raise ValueError("dropped tokens leave no picture, so that there is no FID: leave --inception out")
    if arguments.mask == "drop" and 1 in arguments.fractions:
        raise ValueError("drop keeps at least one patch: a fraction of 1 leaves none")


def masking_of(arguments: Namespace, arms: int) -> Masking:
    """How patches are masked; Fréchet distances by default for at most `FEW_ARMS` arms."""
    from eval.masking.measure import Masking  # with torch

    frechet = {"always": True, "never": False, "auto": arms <= FEW_ARMS}[arguments.frechet]
    return Masking(
        arguments.mask, arguments.fractions, arguments.order, arguments.batch, arguments.seed, frechet
    )


def _add_inputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model and data")
    group.add_argument(
        "--model",
        type=named,
        required=True,
        metavar="PATH|HUB_ID",
        help="a vision transformer of transformers or timm (a folder, or timm/NAME), or CLIP",
    )
    group.add_argument(
        "--head",
        type=existing,
        metavar="FILE",
        help="safetensors of a linear head for a backbone without one",
    )
    group.add_argument(
        "--data",
        type=named,
        required=True,
        metavar="FILE|FOLDER|DATASET",
        help="labelled images: parquet, folder, Hub",
    )
    group.add_argument("--split", type=named, help="of the folder or the dataset")
    group.add_argument("--rows", choices=("all", "even", "odd"), default="all", help="default: %(default)s")
    group.add_argument("--limit", type=positive, metavar="N", help="the first N of these rows")
    group.add_argument(
        "--resize",
        type=positive,
        metavar="PIXELS",
        help="short side before the crop; the model's, or 248/224",
    )


def _add_rankings(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("rankings and masks")
    group.add_argument(
        "--scorers",
        type=words,
        default=("random", "centre", "column_sum", "cls_attention", "rollout", "tokenrank"),
        metavar="NAMES",
        help=f"comma-separated, of {', '.join(SCORER_NAMES)}",
    )
    group.add_argument(
        "--layers",
        type=_layers,
        metavar="LAYERS",
        help="all, auto (default), or indices and names; each scorer of one layer runs at all of them",
    )
    group.add_argument(
        "--layers-from",
        type=existing,
        metavar="REPORT",
        help="an earlier report.json: each scorer at the layer that was best there",
    )
    group.add_argument("--mask", choices=MASKS, default="zero", help="default: %(default)s")
    group.add_argument(
        "--fractions",
        type=fractions,
        default=FRACTIONS,
        metavar="LIST",
        help="as .1,.5 or .1:.9:.1 (default)",
    )
    group.add_argument(
        "--order", choices=("descending", "ascending"), default="descending", help="which end goes first"
    )
    group.add_argument(
        "--frechet",
        choices=("auto", "always", "never"),
        default="auto",
        help=f"Fréchet-ViT, which keeps every picture's features; auto: for up to {FEW_ARMS} rankings",
    )
    group.add_argument("--inception", type=existing, metavar="FILE", help="Inception's weights: FID as well")


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--pictures", type=at_least(0), default=4, metavar="N", help="in tokens.png")
    group.add_argument("--seed", type=at_least(0), help="of random rankings")
    group.add_argument("--batch", type=positive, default=64, help="masked pictures at once")
    add_device_arguments(group)


def _layers(text: str) -> str | list[str | int]:
    return text if text in ("all", "auto") else [layer(part) for part in words(text)]
