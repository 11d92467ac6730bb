"""The arguments of `python -m eval.generate`."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from eval.generate.arms import parse_arms
from eval.generate.choices import CLASSES, EMPTY, FORMATS, MOST
from tokenrank_guidance.option_groups import MOST_STEPS, add_model_arguments
from tokenrank_guidance.options import ABOVE_SEEDS, at_least, between, finite, folder, named, positive
from tokenrank_guidance.program import parser_of

SUMMARY = "Draw the same prompts and seeds with each guidance."
DESCRIPTION = (
    "Draws the same prompts from the same seeds with each arm: OUT/ARM/000/000123.png, with a manifest. "
    "Image i has the seed SEED + i. The same command resumes an interrupted run; under `accelerate launch` "
    "the micro-batches are split among the processes (on CPUs `accelerate launch --multi_gpu --num_processes "
    "N -m eval.generate … --device cpu`: with --cpu it starts but one); the bytes depend on neither. By "
    "rounding they do depend on --batch-size, --threads, the device and the libraries' versions."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.generate", DESCRIPTION)
    parser.add_argument("--out", type=folder, required=True, metavar="DIR", help="gets one folder per arm")
    parser.add_argument(
        "--arms",
        type=parse_arms,
        default="none,sag,tokenrank",
        metavar="ARM,…",
        help="none, sag, tokenrank or pag, each with settings if wanted, "
        "as tokenrank:heads=lambda2:layers=0+1; default: %(default)s",
    )
    parser.add_argument("--n", type=positive, required=True, help="images per arm; a larger N adds to them")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of image 0; image i has SEED + i")
    add_drawing_arguments(parser)
    return check(parser.parse_args(argv))


def add_drawing_arguments(parser: ArgumentParser) -> None:
    """The model, what it draws, and how."""
    add_model_arguments(parser)
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--prompts",
        type=named,
        metavar=f"FILE|{CLASSES}|{EMPTY}",
        help="a prompt per line (and, after a tab, its class); the model's classes; or the empty text",
    )
    group.add_argument("--negative-prompt", metavar="TEXT")
    group.add_argument(
        "--cfg", type=finite, metavar="W", help="classifier-free guidance; the model's own, embedded: 4"
    )
    group.add_argument("--steps", type=between(1, MOST_STEPS), default=24, help="default: %(default)s")
    group.add_argument("--height", type=positive, metavar="PIXELS")
    group.add_argument("--width", type=positive, metavar="PIXELS")
    group.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="images drawn at once; default: 16"
    )
    group.add_argument(
        "--threads",
        type=between(1, os.cpu_count() or 1),
        default=1,
        help="of each process on a CPU, at most the machine's; fixed, as it changes rounding",
    )
    group.add_argument("--format", choices=FORMATS, default="png", help="both are lossless; default: png")


def check(arguments: Namespace) -> Namespace:
    """Raise ValueError for what the arguments cannot be together."""
    if arguments.n > MOST:
        raise ValueError(f"--n is {arguments.n}; expected at most {MOST}")
    if arguments.seed + arguments.n + arguments.batch_size >= ABOVE_SEEDS:
        raise ValueError("--seed + --n does not fit into 63 bits")
    return arguments
