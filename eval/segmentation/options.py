"""The arguments of `python -m eval.segmentation`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from diffseg.choices import ANCHOR_NAMES, MOST_MERGES, PRESET_NAMES, check_anchor_options
from eval import arguments
from eval.arguments import option
from eval.models import is_vision_transformer
from eval.segmentation.arms import MEASURES, Arm, Threshold, best_thresholds, chosen_arms, grid_of_arms
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import between, damping, existing, finite, names, positive, words

if TYPE_CHECKING:
    from diffseg.settings import Settings

SUMMARY = "DiffSeg's ways to choose anchors, against masks."
DEFAULT_ANCHORS = ("uniform", "tokenrank-grid", "tokenrank-topk", "tokenrank-nms", "tokenrank-sample")
CHANGES = ("num_anchors", "merges", "refine", "damping", "layers", "seed")
MATCHES = ("image", "data-set")
RENAMED = {"--pipe": "model", "--vit": "model", "--timestep": "timesteps"}


def thresholds(text: str) -> tuple[Threshold, ...]:
    """A parser of comma-separated positive numbers and "auto"."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    values: list[Threshold] = ["auto" if part == "auto" else finite(part) for part in parts]
    if not values or any(value != "auto" and value <= 0 for value in values):
        raise ArgumentTypeError(f"got {text!r}; expected numbers > 0 or auto, as 0.5,1.1,auto")
    return tuple(dict.fromkeys(values))


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(arguments.Running, arguments.Inputs):
    """Segments pictures by attention, with anchors on a blind grid and where TokenRank puts them, and
    measures the segments against the masks. Prints JSON; the folder gets report.json, table.md, the pictures
    that went worst and best, and a journal from which an interrupted run resumes.
    """

    TITLE: ClassVar[str] = "segments; what is left out is as the preset has it"

    model: str = arguments.model(
        "tiny-flux, tiny-sd, a diffusers pipeline, or a vision transformer of transformers or timm"
    )
    data: str = arguments.data(
        "parquet file with masks, folder of images and masks, coco-stuff27:ROOT or cityscapes:ROOT"
    )
    class_names: tuple[str, ...] = option(
        (), type=words, metavar="NAMES", help="of the masks' values, from 0 on"
    )
    size: int | None = arguments.size("256 for tiny-…, 448 for a vision transformer")
    preset: str = option("default", choices=PRESET_NAMES, help="reference: DiffSeg as published")
    anchors: tuple[str, ...] | None = option(
        type=names(ANCHOR_NAMES), metavar="NAMES", help=f"of {', '.join(ANCHOR_NAMES)}"
    )
    num_anchors: int | None = option(type=positive, metavar="N", help="256")
    kl_threshold: tuple[Threshold, ...] | None = option(
        type=thresholds, metavar="LIST", help="as 0.5,1.1,auto: each is run"
    )
    tau_from: Path | None = option(
        type=existing, metavar="REPORT", help="each anchor choice at its best τ there"
    )
    tau_by: str | None = option(choices=MEASURES, help="what is best: miou")
    merges: int | None = option(type=between(1, MOST_MERGES), metavar="N")
    timesteps: tuple[int, ...] | None = arguments.timesteps("one; 300")
    add_noise: bool = option(False, action="store_true", help="add the timestep's noise; DiffSeg adds none")
    refine: str | None = option(choices=("kmeans",))
    damping: float | None = option(type=damping, metavar="D", help="of TokenRank")
    layers: arguments.Layers | None = arguments.layers("the maps that are averaged")
    match: tuple[str, ...] = option(
        ("image",),
        type=names(MATCHES),
        metavar="NAMES",
        help="image (DiffSeg's); data-set too: segments of all pictures clustered by their attention keys",
    )
    pictures: int = arguments.pictures(3, "worst and best, of each")

    @property
    def settings(self) -> Settings:
        """The preset with what was asked for changed; anchors and thresholds are the arms'."""
        from diffseg.settings import make_settings  # with torch

        changes = arguments.chosen(self, CHANGES)
        if self.timesteps is not None:
            (changes["timestep"],) = self.timesteps
        return make_settings(self.preset, changes | {"resolution": self.size, "add_noise": self.add_noise})

    @property
    def all_anchors(self) -> tuple[str, ...]:
        """Ways to choose anchors; those of the reference preset are its own grid and TokenRank's cells."""
        return self.anchors or (
            ("reference", "tokenrank-grid") if self.preset == "reference" else DEFAULT_ANCHORS
        )

    @property
    def arms(self) -> list[Arm]:
        """Every anchor choice at every threshold, or at its own of an earlier report.

        The reference preset's threshold is 1.1.
        """
        if self.tau_from is not None:
            best = best_thresholds(self.tau_from, self.tau_by or "miou")
            return chosen_arms(self.all_anchors, best)
        default: Threshold = 1.1 if self.preset == "reference" else "auto"
        return grid_of_arms(self.all_anchors, self.kl_threshold or (default,))


def parse(argv: Sequence[str]) -> SegmentationOptions:
    """Read the arguments; ValueError for a mistake, and for options without effect."""
    asked = arguments.read(SegmentationOptions, "python -m eval.segmentation", argv, RENAMED)
    check_anchor_options(asked, asked.all_anchors, random="data-set" in asked.match)
    if asked.tau_from is None:
        refuse_without_effect(asked, ["tau_by"], "it says what is best in the report of --tau-from")
    elif asked.kl_threshold is not None:
        raise ValueError("--kl-threshold and --tau-from both choose τ: give one of them")
    if len(asked.timesteps or ()) > 1:
        raise ValueError(f"--timesteps: got {len(asked.timesteps or ())}, and segments are read at one")
    if is_vision_transformer(asked.model):
        refuse_noise(asked)
    return asked


def refuse_noise(asked: SegmentationOptions) -> None:
    """ValueError for options that a vision transformer does not read."""
    refuse_without_effect(
        asked, ("timesteps", "add_noise"), "a vision transformer sees pictures without noise"
    )
