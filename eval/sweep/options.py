"""The arguments of `python -m eval.sweep`."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import Any

from eval.fidelity.options import add_measuring_arguments, check_measuring
from eval.generate.arms import Arm, parse_arms
from eval.generate.options import add_drawing_arguments
from eval.sweep.grid import Grid, windows
from sag.kinds import NONE
from tokenrank_guidance.options import at_least, finite, folder, named, positive, words
from tokenrank_guidance.program import parser_of

SUMMARY = "Choose settings on some seeds, report on others."
DESCRIPTION = (
    "Tries guidance settings on one range of seeds, chooses the best of each arm there, and reports the "
    "chosen ones beside no guidance on another range. Every combination of the lists is drawn. Prints JSON; "
    "OUT gets it too, with figures; the same command resumes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake, and where the two ranges of seeds overlap."""
    parser = parser_of("python -m eval.sweep", DESCRIPTION)
    parser.add_argument("--out", type=folder, required=True, metavar="DIR")
    parser.add_argument(
        "--arms", type=parse_arms, default="sag,tokenrank", metavar="ARM,…", help="default: sag,tokenrank"
    )
    group = parser.add_argument_group("settings to try; of those left out, the arm's own")
    group.add_argument("--scales", type=_each(finite), default="0.25,0.5,0.75,1.5", metavar="S,…")
    group.add_argument("--thresholds", type=_each(finite), default=(), metavar="T,…")
    group.add_argument("--layers", type=words, default=(), metavar="L,…", help="several at once: 0+1,auto")
    group.add_argument("--windows", type=windows, default=(), metavar="START:STOP,…")
    group.add_argument("--every", type=_each(positive), default=(), metavar="N,…")
    group = parser.add_argument_group("seeds")
    group.add_argument("--choose-n", type=positive, default=500, metavar="N", help="default: 500")
    group.add_argument("--choose-seed", type=at_least(0), default=1_000_000, metavar="SEED")
    group.add_argument("--report-n", type=positive, default=2000, metavar="N", help="default: 2000")
    group.add_argument("--report-seed", type=at_least(0), default=0, metavar="SEED")
    parser.add_argument(
        "--by",
        type=named,
        metavar="METRIC",
        help="what is best by: a figure of eval.fidelity; default: its first",
    )
    add_drawing_arguments(parser)
    add_measuring_arguments(parser)
    arguments = parser.parse_args(argv)
    _check(arguments)
    return arguments


def grid_of(arguments: Namespace) -> Grid:
    return Grid(arguments.scales, arguments.thresholds, arguments.layers, arguments.windows, arguments.every)


def candidates(arguments: Namespace) -> dict[Arm, list[Arm]]:
    """What is tried of each arm."""
    return {arm: grid_of(arguments).arms(arm) for arm in arguments.arms}


def _check(arguments: Namespace) -> None:
    if any(arm.name == NONE for arm in arguments.arms):
        raise ValueError("the arm none has nothing to try; it is drawn anyway")
    first, second = (arguments.choose_seed, arguments.choose_n), (arguments.report_seed, arguments.report_n)
    (low, count), (high, _) = sorted([first, second])
    if low + count > high:
        raise ValueError(
            f"seeds {low} … {low + count - 1} overlap with those from {high} on: what is chosen on some "
            "must be reported on others"
        )
    try:
        candidates(arguments)
    except ArgumentTypeError as error:
        raise ValueError(str(error)) from error
    check_measuring(arguments)


def _each(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """A parser of comma-separated values of a kind, each taken once."""
    return lambda text: tuple(dict.fromkeys(kind(part) for part in text.split(",")))
