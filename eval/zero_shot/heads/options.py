"""The arguments of `python -m eval.zero_shot.heads`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffseg.zero_shot.options import Options, make_options
from eval import arguments
from eval.models import is_vision_transformer
from eval.zero_shot.heads.choices import MAPS
from eval.zero_shot.options import CAPTION, add_noising, template
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import names
from tokenrank_guidance.program import parser_of

OF_NOISE = ("timesteps", "draws", "seed")
RENAMED = {"--pipe": "--model", "--vit": "--model"}
DESCRIPTION = (
    "Measures λ2 of every head and the heat map of that head alone against the objects' masks, and how the "
    "two are ranked together. Prints JSON; the folder gets report.json, table.md, heads.png and heads.svg, "
    "and a journal from which an interrupted run resumes."
)


@dataclass(frozen=True, kw_only=True)
class HeadsOptions(arguments.Inputs, arguments.ObjectNames, arguments.Running):
    """What is asked; of the reading, None is the default of `Options`."""

    size: int | None
    maps: tuple[str, ...]
    caption: str | None
    timesteps: tuple[int, ...] | None
    draws: int | None

    @property
    def reading(self) -> Options:
        return make_options(arguments.chosen(self, OF_NOISE) | {"resolution": self.size})


def parse(argv: Sequence[str]) -> HeadsOptions:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.zero_shot.heads", DESCRIPTION)
    group = arguments.add_inputs(
        parser,
        "tiny-flux, a FLUX or SD3: from the word; or a vision transformer: from the class token",
        "as for python -m eval.zero_shot",
    )
    arguments.add_object_names(group)
    arguments.add_size(group, "128 for tiny-…, 224 for a vision transformer")
    group = parser.add_argument_group("heads")
    group.add_argument(
        "--maps", type=names(MAPS), default=MAPS, metavar="NAMES", help=f"of {', '.join(MAPS)}; all"
    )
    group.add_argument("--caption", type=template, help=f"default: {CAPTION}")
    add_noising(group)
    arguments.add_running(parser, "the first draw of noise")
    asked = HeadsOptions(**vars(arguments.read(parser, argv, RENAMED)))
    if is_vision_transformer(asked.model):
        refuse_noise(asked)
    return asked


def refuse_noise(asked: HeadsOptions) -> None:
    """ValueError for options that a vision transformer does not read."""
    why = "a vision transformer is read once, from its class token, without noise"
    refuse_without_effect(asked, ("caption", *OF_NOISE), why)
