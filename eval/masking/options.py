"""The arguments of `python -m eval.masking`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from eval.cli import Parser, at_least, existing, fractions, positive
from eval.masking.measure import FRACTIONS, Masking
from eval.masking.operation import MASKS
from eval.masking.scorers import SCORERS, find_scorers
from tokenrank_guidance.commands.options import layer

FEW_ARMS = 12
DTYPES = ("float32", "bfloat16", "float16")
DESCRIPTION = (
    "Masks the patches that a ranking calls most influential, at rising fractions, and measures what a "
    "vision transformer still recognises. "
    "Prints JSON; the folder gets report.json, table.md, curves and tokens as "
    "pictures, and a journal from which an interrupted run resumes. Under `accelerate launch` the images are "
    "split among the processes."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake, with every known scorer where one is unknown."""
    parser = Parser(prog="python -m eval.masking", description=DESCRIPTION, allow_abbrev=False)
    _add_inputs(parser)
    _add_rankings(parser)
    _add_running(parser)
    arguments = parser.parse_args(argv)
    find_scorers(arguments.scorers)
    return arguments


def masking_of(arguments: Namespace, arms: int) -> Masking:
    """How patches are masked; Fréchet distances by default for at most `FEW_ARMS` arms."""
    frechet = {"always": True, "never": False, "auto": arms <= FEW_ARMS}[arguments.frechet]
    return Masking(
        arguments.mask, arguments.fractions, arguments.order, arguments.batch, arguments.seed, frechet
    )


def _add_inputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model and data")
    group.add_argument(
        "--model",
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
        "--data", required=True, metavar="FILE|FOLDER|DATASET", help="labelled images: parquet, folder, Hub"
    )
    group.add_argument("--split", help="of the folder or the dataset")
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
        type=lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
        default=("random", "centre", "column_sum", "cls_attention", "rollout", "tokenrank"),
        metavar="NAMES",
        help=f"comma-separated, of {', '.join(SCORERS)}",
    )
    group.add_argument(
        "--layers",
        type=_layers,
        default="auto",
        metavar="LAYERS",
        help="all, auto, or comma-separated indices and names; each scorer of one layer runs at all of them",
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
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--pictures", type=at_least(0), default=4, metavar="N", help="in tokens.png")
    group.add_argument("--seed", type=at_least(0), default=0, help="of random rankings")
    group.add_argument("--batch", type=positive, default=64, help="masked pictures at once")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; the GPU where there is one")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")


def _layers(text: str) -> str | list[str | int]:
    return text if text in ("all", "auto") else [layer(part.strip()) for part in text.split(",")]
