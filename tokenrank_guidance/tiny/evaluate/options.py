"""The arguments of `python -m tokenrank_guidance.tiny.evaluate`, read before anything heavy is imported."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from tokenrank_guidance.options import ABOVE_SEEDS, at_least, file, finite, folder, named, positive
from tokenrank_guidance.program import parser_of

DESCRIPTION = (
    "An ImageNet classifier, restricted to the ten Imagenette classes, names samples of an embedded model. "
    "Prints JSON, and with --out keeps it there as result.json."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m tokenrank_guidance.tiny.evaluate", DESCRIPTION)
    parser.add_argument("model", type=named, help="tiny-flux, tiny-sd, or a folder that tiny.train wrote")
    parser.add_argument("--classifier", type=file, required=True, help="folder of an ImageNet-1k classifier")
    parser.add_argument("--data", type=file, required=True, help="imagenette_val1000.parquet")
    parser.add_argument("--n", type=positive, default=500)
    parser.add_argument("--scale", type=finite, default=4.0, help="classifier-free guidance scale")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--device", type=named, default="auto", help="the GPU where there is one")
    parser.add_argument("--out", type=folder, help="folder for result.json")
    options = parser.parse_args(argv)
    for path in (options.classifier, options.data):
        if not path.exists():
            raise ValueError(f"{path} does not exist")
    if options.seed + options.n > ABOVE_SEEDS:
        raise ValueError(f"--seed {options.seed} with --n {options.n}: seeds reach beyond 63 bits")
    return options
