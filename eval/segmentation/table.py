"""Results for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.report import markdown_table
from tokenrank_guidance.interval import Interval

if TYPE_CHECKING:
    from eval.segmentation.result import SegmentationResult

COLUMNS = (
    "anchors",
    "τ",
    "pixel acc.",
    "class acc.",
    "mIoU",
    "95 % interval",
    "mIoU − uniform",
    "best overlap",
    "segments",
    "s/image",
    "n",
)


def table(result: SegmentationResult) -> str:
    """One line per arm, and one for the floor."""
    lines = [_line(result, i) for i in range(len(result.arms))]
    floor = {"anchors": "one segment", "segments": 1.0, "n": result.n} | _figures(result.floor)
    return markdown_table([*lines, floor], COLUMNS)


def _line(result: SegmentationResult, index: int) -> dict[str, object]:
    arm = result.arms[index]
    found, auto = result.median(index, "threshold"), arm.threshold == "auto"
    less = result.differences[index][1]["miou"] if index in result.differences else None
    return _figures(result.figures[index]) | {
        "anchors": arm.anchors,
        "τ": f"auto ({found:.3g})" if auto else f"{arm.threshold:g}",
        "mIoU − uniform": None if less is None else f"{less.value:+.3f} {less.ends()}",
        "segments": result.median(index, "segments"),
        "s/image": result.median(index, "total_seconds"),
        "n": result.n,
    }


def _figures(figures: Mapping[str, Interval]) -> dict[str, object]:
    return {
        "pixel acc.": figures["pixel_accuracy"].value,
        "class acc.": figures["mean_class_accuracy"].value,
        "mIoU": figures["miou"].value,
        "95 % interval": figures["miou"].ends(),
        "best overlap": figures["best_overlap"].value,
    }
