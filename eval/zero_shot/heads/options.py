"""The arguments of `python -m eval.zero_shot.heads`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from diffseg.zero_shot.options import Options, make_options
from eval import arguments
from eval.arguments import option
from eval.models import is_vision_transformer
from eval.zero_shot.heads.choices import MAPS
from eval.zero_shot.options import CAPTION, Noising, template
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import names

SUMMARY = "Each head's λ2 beside how well its map finds objects."
OF_NOISE = ("timesteps", "draws", "seed")
RENAMED = {"--pipe": "model", "--vit": "model"}


@dataclass(frozen=True, kw_only=True)
class HeadsOptions(arguments.Running, Noising, arguments.ObjectNames, arguments.Inputs):
    """Measures λ2 of every head and the heat map of that head alone against the objects' masks, and how the
    two are ranked together. Prints JSON; the folder gets report.json, table.md, heads.png and heads.svg, and
    a journal from which an interrupted run resumes.
    """

    TITLE: ClassVar[str] = "heads"

    model: str = arguments.model(
        "tiny-flux, a FLUX or SD3: from the word; or a vision transformer: from the class token"
    )
    data: str = arguments.data("as for python -m eval.zero_shot")
    size: int | None = arguments.size("128 for tiny-…, 224 for a vision transformer")
    maps: tuple[str, ...] = option(MAPS, type=names(MAPS), metavar="NAMES", help=f"of {', '.join(MAPS)}; all")
    caption: str | None = option(type=template, help=f"default: {CAPTION}")

    @property
    def reading(self) -> Options:
        """The passes of a pipeline."""
        return make_options(arguments.chosen(self, OF_NOISE) | {"resolution": self.size})


def parse(argv: Sequence[str]) -> HeadsOptions:
    """Read the arguments; ValueError for a mistake."""
    asked = arguments.read(HeadsOptions, "python -m eval.zero_shot.heads", argv, RENAMED)
    if is_vision_transformer(asked.model):
        refuse_noise(asked)
    return asked


def refuse_noise(asked: HeadsOptions) -> None:
    """ValueError for options that a vision transformer does not read."""
    why = "a vision transformer is read once, from its class token, without noise"
    refuse_without_effect(asked, ("caption", *OF_NOISE), why)
