"""The arguments of `python -m eval.fidelity.reference`."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from tokenrank_guidance.options import existing, file, folder, named, positive
from tokenrank_guidance.program import parser_of

SUMMARY = "Statistics of real images, to compare with."
STATISTICS = ".safetensors"
DESCRIPTION = (
    "Takes a classifier's (or Inception's) features of real images and writes their mean and covariance, "
    "which --reference of eval.fidelity reads. Prints JSON, which goes beside them, too."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.fidelity.reference", DESCRIPTION)
    parser.add_argument(
        "--data", type=named, required=True, metavar="FILE|FOLDER|DATASET", help="real images"
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument(
        "--classifier", type=named, metavar="DIR|HUB_ID", help="a ViT whose features are taken"
    )
    chosen.add_argument("--inception", type=existing, metavar="FILE", help="Inception's weights")
    parser.add_argument("--resolution", type=positive, metavar="PIXELS", help="default: as they are")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N images")
    parser.add_argument("--cache", type=folder, default=Path("features"), help="default: ./features")
    parser.add_argument("--out", type=_statistics, required=True, metavar=f"FILE{STATISTICS}")
    return parser.parse_args(argv)


def _statistics(text: str) -> Path:
    path = file(text)
    if path.suffix != STATISTICS:
        raise ArgumentTypeError(f"got {text!r}; expected a name ending in {STATISTICS}")
    return path
