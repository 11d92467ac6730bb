"""The arguments of `python -m eval.masking`."""

from __future__ import annotations

from argparse import _ArgumentGroup
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval import arguments
from eval.masking.choices import FRACTIONS, MASKS, OF_NO_LAYER, RANDOM, SCORER_NAMES, unknown_scorer
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import existing, fractions, positive, words
from tokenrank_guidance.program import parser_of

if TYPE_CHECKING:
    from eval.masking.measure import Masking
    from eval.masking.ranking import Order

FEW_ARMS = 12
RENAMED = {"--batch": "--batch-size"}
DESCRIPTION = (
    "Masks the patches that a ranking calls most influential, at rising fractions, and measures what a "
    "vision transformer still recognises. "
    "Prints JSON; the folder gets report.json, table.md, curves and tokens as "
    "pictures, and a journal from which an interrupted run resumes."
)


@dataclass(frozen=True, kw_only=True)
class MaskingOptions(arguments.Inputs, arguments.Running):
    """What is asked."""

    head: Path | None
    resize: int | None
    scorers: tuple[str, ...]
    layers: arguments.Layers | None
    layers_from: Path | None
    mask: str
    fractions: tuple[float, ...]
    order: Order
    frechet: str
    inception: Path | None
    batch_size: int
    pictures: int

    def masking(self, arms: int) -> Masking:
        """How patches are masked; Fréchet distances by default for at most `FEW_ARMS` arms."""
        from eval.masking.measure import Masking  # with torch

        frechet = {"always": True, "never": False, "auto": arms <= FEW_ARMS}[self.frechet]
        return Masking(self.mask, self.fractions, self.order, self.batch_size, self.seed or 0, frechet)


def parse(argv: Sequence[str]) -> MaskingOptions:
    """Read the arguments; ValueError for a mistake, with every known scorer where one is unknown."""
    parser = parser_of("python -m eval.masking", DESCRIPTION)
    group = arguments.add_inputs(
        parser,
        "a vision transformer of transformers or timm (a folder, or timm/NAME), or CLIP",
        "labelled images: parquet, folder, Hub",
    )
    group.add_argument(
        "--head",
        type=existing,
        metavar="FILE",
        help="safetensors of a linear head for a backbone without one",
    )
    group.add_argument(
        "--resize",
        type=positive,
        metavar="PIXELS",
        help="short side before the crop; the model's, or 248/224",
    )
    _add_rankings(parser.add_argument_group("rankings and masks"))
    group = arguments.add_running(parser, "random rankings")
    arguments.add_pictures(group, 4, "in tokens.png")
    group.add_argument("--batch-size", type=positive, default=64, metavar="N", help="masked pictures at once")
    asked = MaskingOptions(**vars(arguments.read(parser, argv, RENAMED)))
    _check(asked)
    return asked


def _check(asked: MaskingOptions) -> None:
    """ValueError for an unknown scorer, for what cannot be together, and for options without effect."""
    for name in asked.scorers:
        if name not in SCORER_NAMES:
            raise ValueError(unknown_scorer(name, SCORER_NAMES))
    if all(name in OF_NO_LAYER for name in asked.scorers):
        refuse_without_effect(asked, ["layers", "layers_from"], "no scorer among --scorers reads one layer")
    if asked.layers_from is not None:
        refuse_without_effect(asked, ["layers"], "--layers-from chooses them")
    if RANDOM not in asked.scorers:
        refuse_without_effect(asked, ["seed"], f"{RANDOM} is not among --scorers")
    if asked.mask == "drop" and asked.inception is not None:
        raise ValueError("dropped tokens leave no picture, so that there is no FID: leave --inception out")
    if asked.mask == "drop" and 1 in asked.fractions:
        raise ValueError("drop keeps at least one patch: a fraction of 1 leaves none")


def _add_rankings(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--scorers",
        type=words,
        default=("random", "centre", "column_sum", "cls_attention", "rollout", "tokenrank"),
        metavar="NAMES",
        help=f"comma-separated, of {', '.join(SCORER_NAMES)}",
    )
    arguments.add_layers(group, "each scorer of one layer runs at all of them; auto")
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
