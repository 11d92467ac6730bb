"""The arguments of `tokenrank segment`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from diffseg.choices import ANCHOR_NAMES, MOST_MERGES, PRESET_NAMES, VOTES, check_anchor_options
from tokenrank_guidance.option_groups import add_model_arguments, refuse_without_effect
from tokenrank_guidance.options import at_least, between, damping, file, finite, folder, layer, positive

SUMMARY = "Split an image into segments by a diffusion model's attention, with anchors by TokenRank."


def threshold(text: str) -> float | str:
    """A parser of "auto" and of positive numbers."""
    if text == "auto":
        return text
    value = finite(text)
    if value <= 0:
        raise ArgumentTypeError(f"expected a number > 0 or 'auto', got {text!r}")
    return value


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("image", type=file, metavar="IMAGE", help="a picture of any size")
    add_model_arguments(parser, samples=False)  # one pass takes no steps
    _add_segment_arguments(parser)
    group = parser.add_argument_group("names")
    group.add_argument("--caption", metavar="TEXT", help="name segments by this caption's words")
    group.add_argument("--nouns", nargs="+", metavar="WORD", help="by these of its words alone")
    group.add_argument("--vote", choices=VOTES, help=f"default: {VOTES[0]}")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=folder, default=Path("segments"), metavar="DIR", help="default: %(default)s"
    )


def check(arguments: Namespace) -> None:
    """ValueError for options that have no effect together with the others."""
    if arguments.caption is None:
        refuse_without_effect(
            arguments, ("nouns", "vote"), "segments are named by a caption; pass caption too"
        )
    check_anchor_options(arguments, [_anchors(arguments)])
    thresholds = arguments.kl_threshold or []
    if len(thresholds) > 1:
        if "auto" in thresholds:
            raise ValueError("--kl-threshold: got auto beside others; expected auto alone, or numbers")
        if arguments.merges not in (None, len(thresholds)):
            raise ValueError(
                f"kl_threshold: got {tuple(thresholds)}, expected a number > 0, {arguments.merges} of them, "
                "or 'auto'"
            )


def _anchors(arguments: Namespace) -> str:
    return arguments.anchors or ("reference" if arguments.preset == "reference" else "tokenrank-grid")


def _add_segment_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("segments", "what is left out is as the preset has it")
    group.add_argument(
        "--preset", choices=PRESET_NAMES, default="default", help="reference: DiffSeg as published"
    )
    group.add_argument("--anchors", choices=ANCHOR_NAMES, help="where merging starts")
    group.add_argument("--num-anchors", type=positive, metavar="N")
    group.add_argument(
        "--kl-threshold", type=threshold, nargs="+", metavar="T", help="auto, one, or one for each merge"
    )
    group.add_argument("--merges", type=between(1, MOST_MERGES), metavar="N")
    group.add_argument("--timestep", type=at_least(0), metavar="T", help="of 1000")
    group.add_argument("--add-noise", action="store_true", help="add the timestep's noise; DiffSeg adds none")
    group.add_argument("--refine", choices=("kmeans",))
    group.add_argument("--damping", type=damping, metavar="D", help="of TokenRank")
    group.add_argument("--layers", type=layer, nargs="+", metavar="LAYER", help="auto, all, names or indices")
    group.add_argument(
        "--resolution", type=positive, metavar="PIXELS", help="√(pixels) worked at; the model's own"
    )
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of noise and of sampled anchors")
