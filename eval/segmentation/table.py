"""Results for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.report import markdown_table

Json = dict[str, Any]
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


def table(rows: Sequence[Json]) -> str:
    """One line per entry of a report's `results`, or for its `one_segment`."""
    return markdown_table([_line(row) for row in rows], COLUMNS)


def _line(row: Json) -> Json:
    values = (
        row.get("anchors", "one segment"),
        _threshold(row),
        row["pixel_accuracy"],
        row["mean_class_accuracy"],
        row["miou"],
        _ends(row["miou_ci"]),
        _against(row.get("differences", {})),
        row["best_overlap"],
        row["segments"],
        row.get("seconds_per_image"),
        row["n"],
    )
    return dict(zip(COLUMNS, values, strict=True))


def _threshold(row: Json) -> str | None:
    if row.get("kl_threshold") == "auto":
        return f"auto ({row['threshold']:.3g})"
    return f"{row['kl_threshold']:g}" if "kl_threshold" in row else None


def _against(differences: Json) -> str | None:
    for one in differences.values():
        return f"{one['miou']['value']:+.3f} {_ends(one['miou']['ci'])}"
    return None


def _ends(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"
