"""The arguments of `python -m eval.guidance`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from eval import arguments
from eval.arguments import option
from eval.generate.arms import Arm, parse_arms
from tokenrank_guidance.option_groups import MOST_STEPS
from tokenrank_guidance.options import ABOVE_SEEDS, at_least, between, finite, named, positive

SUMMARY = "What masks cover, and what becomes of the contrast."
ARMS = (
    "none,sag:keep_contrast=0,tokenrank:keep_contrast=0,tokenrank,tokenrank:scale=1.5:stop=0.5,"
    "tokenrank:scale=1.5:keep_contrast=0,tokenrank:threshold=-1:keep_contrast=0"
)


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions(arguments.Running):
    """Compares each scorer's mask with SAG's along runs that TokenRank guides, and measures how far each arm
    takes the images in contrast and sharpness, beside real ones. Prints JSON; the folder gets report.json,
    table.md, pictures.png, and a journal from which an interrupted run resumes.
    """

    TITLE: ClassVar[str] = "what is drawn"

    model: str = arguments.model("an embedded model, a folder or a Hub id of a pipeline")
    n: int = option(128, type=positive, metavar="N", help="images; default: %(default)s")
    arms: tuple[Arm, ...] = option(
        parse_arms(ARMS), type=parse_arms, metavar="ARM,…", help="as of eval.generate"
    )
    prompts: str | None = option(type=named, metavar="FILE|classes|empty", help="as of eval.generate")
    cfg: float = option(1.0, type=finite, metavar="W", help="classifier-free guidance; %(default)s")
    steps: int = option(24, type=between(1, MOST_STEPS), help="default: %(default)s")
    batch_size: int = option(16, type=positive, metavar="N", help="images drawn at once; %(default)s")
    reference: str | None = option(type=named, metavar="FILE|FOLDER|DATASET", help="real images")
    pictures: int = option(12, type=at_least(0), metavar="N", help="shown of each arm; %(default)s")


def parse(argv: Sequence[str]) -> GuidanceOptions:
    """Read the arguments; ValueError for a mistake."""
    asked = arguments.read(GuidanceOptions, "python -m eval.guidance", argv, {})
    if (asked.seed or 0) + asked.n >= ABOVE_SEEDS:
        raise ValueError("--seed + --n does not fit into 63 bits")
    return asked
