"""The arguments of `python -m eval.fidelity`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from eval.cli import Parser, at_least, existing, names, positive
from eval.fidelity.metrics import METRICS

NATIVE = "native"
DESCRIPTION = (
    "Measures the arms that eval.generate drew, or folders of images, by torch-fidelity. Every figure has a "
    "95 % interval over the generated images, the reference being fixed; arms of the same prompts and seeds "
    "are compared in pairs. Prints JSON; OUT gets it too, with a table."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = Parser(prog="python -m eval.fidelity", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="arms, folders of arms, or of images"
    )
    parser.add_argument("--n", type=positive, metavar="N", help="images of each arm; default: as all have")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results")
    add_measuring_arguments(parser)
    return parser.parse_args(argv)


def add_measuring_arguments(parser: ArgumentParser) -> None:
    """What is measured, against what, and how often it is resampled."""
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--reference",
        metavar="FILE|FOLDER|STATS|shipped",
        help="real images (parquet, folder, Hub), or the .safetensors of eval.fidelity.reference",
    )
    group.add_argument(
        "--metrics",
        type=names(METRICS),
        metavar="NAMES",
        help=f"of {', '.join(METRICS)}; default: what the reference and the prompts allow",
    )
    group.add_argument(
        "--extractor",
        default="inception",
        metavar="inception|inception-download|vit:PATH",
        help="vit: an image classifier's features, as a stand-in that is not FID; default: %(default)s",
    )
    group.add_argument("--inception", type=existing, metavar="FILE", help="torch-fidelity's weights")
    group.add_argument("--classifier", metavar="PATH", help="for accuracy; default: the extractor's ViT")
    group.add_argument(
        "--resolution",
        type=_resolution,
        metavar=f"PIXELS|{NATIVE}",
        help="real images are cropped and resampled to it; default: the size of the generated ones",
    )
    group.add_argument("--resamples", type=at_least(20), default=200, metavar="N", help="default: 200")
    group.add_argument("--resampling-seed", type=at_least(0), default=0, metavar="SEED")
    group.add_argument("--extrapolate", action="store_true", help="FID∞ as well")
    group.add_argument("--cache", type=Path, metavar="DIR", help="of features; default: OUT/features")
    group.add_argument("--measure-on", default="cpu", metavar="DEVICE", help="default: %(default)s")


def _resolution(text: str) -> int | str:
    return text if text == NATIVE else positive(text)
