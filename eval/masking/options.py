"""The arguments of `python -m eval.masking`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from eval import arguments
from eval.arguments import option
from eval.masking.choices import FRACTIONS, MASKS, OF_NO_LAYER, RANDOM, SCORER_NAMES, unknown_scorer
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import existing, fractions, positive, words

if TYPE_CHECKING:
    from eval.masking.measure import Masking
    from eval.masking.ranking import Order

SUMMARY = "Mask patches by rank: what does a ViT still recognise?"
DEFAULT_SCORERS = ("random", "centre", "column_sum", "cls_attention", "rollout", "tokenrank")
FEW_ARMS = 12
RENAMED = {"--batch": "batch_size"}


@dataclass(frozen=True, kw_only=True)
class MaskingOptions(arguments.Running, arguments.Inputs):
    """Masks the patches that a ranking calls most influential, at rising fractions, and measures what a
    vision transformer still recognises. Prints JSON; the folder gets report.json, table.md, curves and tokens
    as pictures, and a journal from which an interrupted run resumes.
    """

    TITLE: ClassVar[str] = "rankings and masks"

    model: str = arguments.model("a vision transformer of transformers or timm (timm/NAME), or CLIP")
    data: str = arguments.data("labelled images: parquet, folder, Hub")
    head: Path | None = option(
        type=existing, metavar="FILE", help="safetensors of a linear head for a backbone without one"
    )
    resize: int | None = option(
        type=positive, metavar="PIXELS", help="short side before the crop; the model's, or 248/224"
    )
    scorers: tuple[str, ...] = option(
        DEFAULT_SCORERS, type=words, metavar="NAMES", help=f"comma-separated, of {', '.join(SCORER_NAMES)}"
    )
    layers: arguments.Layers | None = arguments.layers("each scorer of one layer runs at all of them; auto")
    layers_from: Path | None = option(
        type=existing,
        metavar="REPORT",
        help="an earlier report.json: each scorer at the layer that was best there",
    )
    mask: str = option("zero", choices=MASKS, help="default: %(default)s")
    fractions: tuple[float, ...] = option(
        FRACTIONS, type=fractions, metavar="LIST", help="as .1,.5 or .1:.9:.1 (default)"
    )
    order: Order = option("descending", choices=("descending", "ascending"), help="which end goes first")
    frechet: str = option(
        "auto",
        choices=("auto", "always", "never"),
        help=f"Fréchet-ViT, which keeps every picture's features; auto: for up to {FEW_ARMS} rankings",
    )
    inception: Path | None = option(type=existing, metavar="FILE", help="Inception's weights: FID as well")
    pictures: int = arguments.pictures(4, "in tokens.png")
    batch_size: int = option(64, type=positive, metavar="N", help="masked pictures at once")

    def masking(self, arms: int) -> Masking:
        """How patches are masked; Fréchet distances by default for at most `FEW_ARMS` arms."""
        from eval.masking.measure import Masking  # with torch

        frechet = {"always": True, "never": False, "auto": arms <= FEW_ARMS}[self.frechet]
        return Masking(self.mask, self.fractions, self.order, self.batch_size, self.seed or 0, frechet)


def parse(argv: Sequence[str]) -> MaskingOptions:
    """Read the arguments; ValueError for a mistake, with every known scorer where one is unknown."""
    asked = arguments.read(MaskingOptions, "python -m eval.masking", argv, RENAMED)
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
    return asked
