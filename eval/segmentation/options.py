"""The arguments of `python -m eval.segmentation`."""

from __future__ import annotations

from argparse import ArgumentTypeError, _ArgumentGroup
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffseg.choices import ANCHOR_NAMES, MOST_MERGES, PRESET_NAMES, check_anchor_options
from eval import arguments
from eval.models import is_vision_transformer
from eval.segmentation.arms import MEASURES, Arm, Threshold, best_thresholds, chosen_arms, grid_of_arms
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import between, damping, existing, finite, names, positive, words
from tokenrank_guidance.program import parser_of

if TYPE_CHECKING:
    from diffseg.settings import Settings

DEFAULT_ANCHORS = ("uniform", "tokenrank-grid", "tokenrank-topk", "tokenrank-nms", "tokenrank-sample")
CHANGES = ("num_anchors", "merges", "refine", "damping", "layers", "seed")
MATCHES = ("image", "data-set")
RENAMED = {"--pipe": "--model", "--vit": "--model", "--timestep": "--timesteps"}
DESCRIPTION = (
    "Segments pictures by attention, with anchors on a blind grid and where TokenRank puts them, and "
    "measures the segments against the masks. Prints JSON; the folder gets report.json, table.md, the "
    "pictures that went worst and best, and a journal from which an interrupted run resumes."
)


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(arguments.Inputs, arguments.Running):
    """What is asked; of the segmentation itself, None is as the preset has it."""

    class_names: tuple[str, ...]
    size: int | None
    preset: str
    anchors: tuple[str, ...] | None
    num_anchors: int | None
    kl_threshold: tuple[Threshold, ...] | None
    tau_from: Path | None
    tau_by: str | None
    merges: int | None
    timesteps: tuple[int, ...] | None
    add_noise: bool
    refine: str | None
    damping: float | None
    layers: arguments.Layers | None
    match: tuple[str, ...]
    pictures: int

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
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.segmentation", DESCRIPTION)
    group = arguments.add_inputs(
        parser,
        "tiny-flux, tiny-sd, a diffusers pipeline, or a vision transformer of transformers or timm",
        "parquet file with masks, folder of images and masks, coco-stuff27:ROOT or cityscapes:ROOT",
    )
    group.add_argument(
        "--class-names", type=words, default=(), metavar="NAMES", help="of the masks' values, from 0 on"
    )
    arguments.add_size(group, "256 for tiny-…, 448 for a vision transformer")
    _add_segments(parser.add_argument_group("segments", "what is left out is as the preset has it"))
    group = arguments.add_running(parser, "sampled anchors, noise and clusters")
    arguments.add_pictures(group, 3, "worst and best, of each")
    asked = SegmentationOptions(**vars(arguments.read(parser, argv, RENAMED)))
    _check(asked)
    return asked


def refuse_noise(asked: SegmentationOptions) -> None:
    """ValueError for options that a vision transformer does not read."""
    refuse_without_effect(
        asked, ("timesteps", "add_noise"), "a vision transformer sees pictures without noise"
    )


def thresholds(text: str) -> tuple[Threshold, ...]:
    """A parser of comma-separated positive numbers and "auto"."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    values: list[Threshold] = ["auto" if part == "auto" else finite(part) for part in parts]
    if not values or any(value != "auto" and value <= 0 for value in values):
        raise ArgumentTypeError(f"got {text!r}; expected numbers > 0 or auto, as 0.5,1.1,auto")
    return tuple(dict.fromkeys(values))


def _check(asked: SegmentationOptions) -> None:
    """ValueError for what the arguments cannot be together, and for options without effect."""
    check_anchor_options(asked, asked.all_anchors, random="data-set" in asked.match)
    if asked.tau_from is None:
        refuse_without_effect(asked, ["tau_by"], "it says what is best in the report of --tau-from")
    elif asked.kl_threshold is not None:
        raise ValueError("--kl-threshold and --tau-from both choose τ: give one of them")
    if len(asked.timesteps or ()) > 1:
        raise ValueError(f"--timesteps: got {len(asked.timesteps or ())}, and segments are read at one")
    if is_vision_transformer(asked.model):
        refuse_noise(asked)


def _add_segments(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--preset", choices=PRESET_NAMES, default="default", help="reference: DiffSeg as published"
    )
    group.add_argument(
        "--anchors", type=names(ANCHOR_NAMES), metavar="NAMES", help=f"of {', '.join(ANCHOR_NAMES)}"
    )
    group.add_argument("--num-anchors", type=positive, metavar="N", help="256")
    group.add_argument("--kl-threshold", type=thresholds, metavar="LIST", help="as 0.5,1.1,auto: each is run")
    group.add_argument(
        "--tau-from", type=existing, metavar="REPORT", help="each anchor choice at its best τ there"
    )
    group.add_argument("--tau-by", choices=MEASURES, help="what is best: miou")
    group.add_argument("--merges", type=between(1, MOST_MERGES), metavar="N")
    arguments.add_timesteps(group, "one; 300")
    group.add_argument("--add-noise", action="store_true", help="add the timestep's noise; DiffSeg adds none")
    group.add_argument("--refine", choices=("kmeans",))
    group.add_argument("--damping", type=damping, metavar="D", help="of TokenRank")
    arguments.add_layers(group, "the maps that are averaged")
    group.add_argument(
        "--match",
        type=names(MATCHES),
        default=("image",),
        metavar="NAMES",
        help="image (DiffSeg's); data-set too: segments of all pictures clustered by their attention keys",
    )
