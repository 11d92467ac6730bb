"""A report's tables and figure: methods, classes, and what more bounces do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.report import COLOURS, plain_axes
from eval.views import Views
from eval.zero_shot.arms import ARMS, DIRECTIONS
from tokenrank_guidance.markdown import markdown_table, number, with_interval
from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"miou": "mIoU", "map": "mAP"}


def methods(report: Json) -> str:
    """A line per method, in per cent; `ca_miou` is the figure that ConceptAttention published as mIoU."""
    rows = [
        {
            "method": row["arm"],
            "Acc": with_interval(row["acc"], ".1p"),
            "mIoU": with_interval(row["miou"], ".1p"),
            "mAP": with_interval(row["map"], ".1p"),
            "ca_miou": number(row["ca_miou"]["value"], ".1p"),
            "n": row["n"],
        }
        for row in report["results"]
    ]
    return markdown_table(rows, tuple(rows[0]))


def classes(report: Json) -> str:
    """A line per class, with each method's mIoU in per cent; none where there is a single class."""
    named = report["results"][0]["per_class"]
    if len(named) < 2:
        return ""
    rows = [
        {"class": one["class"], "images": one["images"]}
        | {row["arm"]: number(row["per_class"][i]["miou"], ".1p") for row in report["results"]}
        for i, one in enumerate(named)
    ]
    return f"mIoU of each class:\n\n{markdown_table(rows, tuple(rows[0]))}"


def curve_figure(report: Json) -> Figure | None:
    """mIoU and mAP by the number of bounces, for each direction; dashed: the methods that do not bounce.

    Shaded: 95 % intervals. None where no curve was asked for.
    """
    from matplotlib.figure import Figure

    curve = report["curve"]
    if not curve:
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    most = max(point["bounces"] for point in curve)
    for panel, name in zip(figure.subplots(1, len(LABELS)), LABELS, strict=True):
        for colour, direction in zip(COLOURS, DIRECTIONS, strict=False):
            own = [point for point in curve if point["direction"] == direction]
            _band(panel, own, name, f"{direction} bounces, λ2", colour)
        _peers(panel, report["results"], name)
        panel.set(xlabel="bounces", ylabel=f"{LABELS[name]} (%)", xticks=range(1, most + 1))
        plain_axes(panel, 0.3)
    figure.suptitle(f"{report['n']} pictures, shaded: 95 % intervals", fontsize=10)
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _band(panel: Axes, points: list[Json], name: str, label: str, colour: str) -> None:
    bounces = [point["bounces"] for point in points]
    heights = [100 * point[name]["value"] for point in points]
    panel.plot(bounces, heights, "o-", markersize=4, color=colour, label=label)
    ends = np.array([point[name]["ci"] for point in points], dtype=float)  # None, of one picture, is NaN
    panel.fill_between(bounces, *(100 * ends.T), alpha=0.18, color=colour, linewidth=0)


def _peers(panel: Axes, rows: list[Json], name: str) -> None:
    peers = [row for row in rows if ARMS[row["arm"]]["method"] not in ("bounce", "keyed", "image-bounce")]
    for place, (colour, row) in enumerate(zip(COLOURS[len(DIRECTIONS) :], peers, strict=False)):
        style = (5 * place, (5, 5))  # shifted, so that equal lines show both
        height = 100 * row[name]["value"]
        panel.axhline(height, color=colour, linestyle=style, linewidth=1.3, label=row["arm"])


VIEWS = Views({"methods": methods, "classes": classes}, {"curve": curve_figure})
