"""The arguments of `python -m eval.fidelity`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from eval.fidelity.choices import (
    INCEPTION,
    METRICS,
    NATIVE,
    WITHOUT_WEIGHTS,
    unknown_extractor,
)
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import at_least, existing, file, folder, named, names, positive
from tokenrank_guidance.program import parser_of

SUMMARY = "FID, IS, KID, precision and recall, with intervals."
DESCRIPTION = (
    "Measures the arms that eval.generate drew, or folders of images, by torch-fidelity. Every figure has a "
    "95 % interval over the generated images, the reference being fixed; arms of the same prompts and seeds "
    "are compared in pairs. Prints JSON; OUT gets it too, with a table."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.fidelity", DESCRIPTION)
    parser.add_argument(
        "folders", nargs="+", type=file, metavar="DIR", help="arms, folders of arms, or of images"
    )
    parser.add_argument("--n", type=positive, metavar="N", help="images of each arm; default: as all have")
    parser.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results")
    add_measuring_arguments(parser)
    arguments = parser.parse_args(argv)
    check_measuring(arguments)
    return arguments


def add_measuring_arguments(parser: ArgumentParser) -> None:
    """What is measured, against what, and how often it is resampled."""
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--reference",
        type=named,
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
        type=_extractor,
        default=INCEPTION,
        metavar="inception|inception-download|vit:PATH",
        help="vit: an image classifier's features, as a stand-in that is not FID; default: %(default)s",
    )
    group.add_argument("--inception", type=existing, metavar="FILE", help="torch-fidelity's weights")
    group.add_argument("--classifier", type=named, metavar="PATH", help="for accuracy; the extractor's ViT")
    group.add_argument(
        "--resolution",
        type=_resolution,
        metavar=f"PIXELS|{NATIVE}",
        help="real images are cropped and resampled to it; default: the size of the generated ones",
    )
    group.add_argument("--resamples", type=at_least(20), default=200, metavar="N", help="default: 200")
    group.add_argument("--resampling-seed", type=at_least(0), default=0, metavar="SEED")
    group.add_argument("--extrapolate", action="store_true", help="FID∞ as well")
    group.add_argument("--cache", type=folder, metavar="DIR", help="of features; default: OUT/features")
    group.add_argument("--measure-on", type=named, default="cpu", metavar="DEVICE", help="%(default)s")


def check_measuring(arguments: Namespace) -> None:
    """ValueError for what is missing, and for options that have no effect together with the others."""
    extractor, asked = arguments.extractor, arguments.metrics or METRICS
    if extractor == INCEPTION and arguments.inception is None:
        raise ValueError(WITHOUT_WEIGHTS)
    if extractor != INCEPTION:
        refuse_without_effect(arguments, ["inception"], f"the extractor is {extractor}")
    if "accuracy" not in asked:
        refuse_without_effect(arguments, ["classifier"], "accuracy is not among --metrics")
    if arguments.reference is None:
        refuse_without_effect(arguments, ["resolution"], "there is no --reference to resample")
    if arguments.extrapolate and ("fid" not in asked or arguments.reference is None):
        raise ValueError("--extrapolate needs fid, and so a reference")


def _extractor(text: str) -> str:
    wrong = unknown_extractor(text)
    if wrong is not None:
        raise ArgumentTypeError(wrong)
    return text


def _resolution(text: str) -> int | str:
    return text if text == NATIVE else positive(text)
