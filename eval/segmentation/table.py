"""Results for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.report import markdown_table
from tokenrank_guidance.interval import Interval

if TYPE_CHECKING:
    from eval.segmentation.result import SegmentationResult

OVERLAP = "best overlap"


def table(result: SegmentationResult) -> str:
    """One line per arm, and one for the floor."""
    lines = [_line(result, i) for i in range(len(result.arms))]
    floor = {"anchors": "one segment"} | _figures(result.floor) | {"segments": 1.0, "n": result.n}
    return markdown_table([*lines, floor], tuple(lines[0]))


def _line(result: SegmentationResult, index: int) -> dict[str, object]:
    arm, found = result.arms[index], result.median(index, "threshold")
    less = result.differences[index][1]["miou"] if index in result.differences else None
    figures = _figures(result.figures[index])
    overlap = figures.pop(OVERLAP)
    return {
        "anchors": arm.anchors,
        "τ": f"auto ({found:.3g})" if arm.threshold == "auto" else f"{arm.threshold:g}",
        **figures,
        "mIoU − uniform": None if less is None else f"{less.value:+.3f} {less.ends()}",
        OVERLAP: overlap,
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
        OVERLAP: figures["best_overlap"].value,
    }
