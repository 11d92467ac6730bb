"""The arguments of `python -m eval.segmentation`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffseg.choices import ANCHOR_NAMES, MOST_MERGES, PRESET_NAMES, check_anchor_options
from eval.segmentation.arms import MEASURES, Arm, Threshold, best_thresholds, chosen_arms, grid_of_arms
from tokenrank_guidance.option_groups import add_device_arguments, refuse_without_effect
from tokenrank_guidance.options import (
    at_least,
    between,
    damping,
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

if TYPE_CHECKING:
    from diffseg.settings import Settings

DEFAULT_ANCHORS = ("uniform", "tokenrank-grid", "tokenrank-topk", "tokenrank-nms", "tokenrank-sample")
CHANGES = ("num_anchors", "merges", "timestep", "refine", "damping", "layers", "seed")
MATCHES = ("image", "data-set")
DESCRIPTION = (
    "Segments pictures by attention, with anchors on a blind grid and where TokenRank puts them, and "
    "measures the segments against the masks. Prints JSON; the folder gets report.json, table.md, the "
    "pictures that went worst and best, and a journal from which an interrupted run resumes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.segmentation", DESCRIPTION)
    _add_inputs(parser)
    _add_segments(parser)
    _add_running(parser)
    arguments = parser.parse_args(argv)
    _check(arguments)
    return arguments


def _check(arguments: Namespace) -> None:
    """ValueError for what the arguments cannot be together, and for options without effect."""
    check_anchor_options(arguments, anchors_of(arguments), random="data-set" in arguments.match)
    if arguments.tau_from is None:
        refuse_without_effect(arguments, ["tau_by"], "it says what is best in the report of --tau-from")
    elif arguments.kl_threshold is not None:
        raise ValueError("--kl-threshold and --tau-from both choose τ: give one of them")
    if arguments.vit is not None:
        refuse_without_effect(arguments, ["timestep", "add_noise"], "a --vit sees pictures without noise")


def settings_of(arguments: Namespace) -> Settings:
    """The preset with what was asked for changed; anchors and thresholds are the arms'."""
    from diffseg.settings import make_settings  # with torch

    changes = {name: getattr(arguments, name) for name in CHANGES if getattr(arguments, name) is not None}
    return make_settings(
        arguments.preset, changes | {"resolution": arguments.size, "add_noise": arguments.add_noise}
    )


def anchors_of(arguments: Namespace) -> tuple[str, ...]:
    """The ways to choose anchors; those of the reference preset are its own grid and TokenRank's cells."""
    return arguments.anchors or (
        ("reference", "tokenrank-grid") if arguments.preset == "reference" else DEFAULT_ANCHORS
    )


def arms_of(arguments: Namespace) -> list[Arm]:
    """Every anchor choice at every threshold, or at its own of an earlier report.

    The reference preset's threshold is 1.1.
    """
    reference, anchors = arguments.preset == "reference", anchors_of(arguments)
    if arguments.tau_from is None:
        return grid_of_arms(anchors, arguments.kl_threshold or ((1.1,) if reference else ("auto",)))
    return chosen_arms(anchors, best_thresholds(arguments.tau_from, arguments.tau_by or "miou"))


def thresholds(text: str) -> tuple[Threshold, ...]:
    """A parser of comma-separated positive numbers and "auto"."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    values: list[Threshold] = ["auto" if part == "auto" else finite(part) for part in parts]
    if not values or any(value != "auto" and value <= 0 for value in values):
        raise ArgumentTypeError(f"got {text!r}; expected numbers > 0 or auto, as 0.5,1.1,auto")
    return tuple(dict.fromkeys(values))


def _add_inputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model and data")
    model = group.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--pipe", type=named, metavar="NAME|PATH|HUB_ID", help="tiny-flux, tiny-sd, or a diffusers pipeline"
    )
    model.add_argument(
        "--vit",
        type=named,
        metavar="PATH|HUB_ID",
        help="a vision transformer of transformers, or timm/NAME of the Hub",
    )
    group.add_argument(
        "--data",
        type=named,
        required=True,
        metavar="DATA",
        help="parquet file with masks, folder of images and masks, coco-stuff27:ROOT or cityscapes:ROOT",
    )
    group.add_argument("--split", type=named, help="of the folder")
    group.add_argument(
        "--class-names", type=words, default=(), metavar="NAMES", help="of the masks' values, from 0 on"
    )
    group.add_argument("--rows", choices=("all", "even", "odd"), default="all", help="default: %(default)s")
    group.add_argument("--limit", type=positive, metavar="N", help="the first N of these rows")
    group.add_argument(
        "--size", type=positive, metavar="PIXELS", help="√(pixels) that the model works at; 256 for tiny-…"
    )


def _add_segments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("segments", "what is left out is as the preset has it")
    group.add_argument(
        "--preset", choices=PRESET_NAMES, default="default", help="reference: DiffSeg as published"
    )
    group.add_argument(
        "--anchors", type=names(ANCHOR_NAMES), metavar="NAMES", help=f"of {', '.join(ANCHOR_NAMES)}"
    )
    group.add_argument("--num-anchors", type=positive, metavar="N", help="256")
    group.add_argument("--kl-threshold", type=thresholds, metavar="LIST", help="as 0.5,1.1,auto: each is run")
    group.add_argument(
        "--tau-from", type=existing, metavar="REPORT", help="each anchor choice at its best τ there"
    )
    group.add_argument("--tau-by", choices=MEASURES, help="what is best: miou")
    group.add_argument("--merges", type=between(1, MOST_MERGES), metavar="N")
    group.add_argument("--timestep", type=at_least(0), metavar="T", help="of 1000")
    group.add_argument("--add-noise", action="store_true", help="add the timestep's noise; DiffSeg adds none")
    group.add_argument("--refine", choices=("kmeans",))
    group.add_argument("--damping", type=damping, metavar="D", help="of TokenRank")
    group.add_argument("--layers", type=_layers, metavar="LAYERS", help="all, auto, indices or names")
    group.add_argument(
        "--match",
        type=names(MATCHES),
        default=("image",),
        metavar="NAMES",
        help="image (DiffSeg's); data-set too: segments of all pictures clustered by their attention keys",
    )


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--pictures", type=at_least(0), default=3, metavar="N", help="worst and best, of each")
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of sampled anchors, noise and clusters")
    add_device_arguments(group)


def _layers(text: str) -> str | tuple[str | int, ...]:
    return text if text in ("all", "auto") else tuple(layer(part) for part in words(text))
