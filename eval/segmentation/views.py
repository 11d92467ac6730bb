"""A report's table: a line for each way to choose anchors at each τ."""

from __future__ import annotations

from eval.views import Views
from tokenrank_guidance.markdown import markdown_table, number, signed, with_interval
from tokenrank_guidance.report import Json

ONE_SEGMENT = "one segment"


def arms(report: Json) -> str:
    """In the order in which arms were asked for, and a last line for the whole picture as one segment."""
    less = {one["a"]: one for one in report["differences"]}
    lines = [_line(row, less.get(row["arm"])) for row in report["results"]]
    floor = {"anchors": ONE_SEGMENT} | _figures(report["one_segment"]) | {"segments": 1, "n": report["n"]}
    return markdown_table([*lines, floor], tuple(lines[0]))


def _line(row: Json, less: Json | None) -> Json:
    auto = row["kl_threshold"] == "auto"
    return {
        "anchors": row["anchors"],
        "τ": f"auto ({row['threshold']:.3g})" if auto else f"{row['kl_threshold']:g}",
        **_figures(row),
        "mIoU − blind": None if less is None else signed(less["metrics"]["miou"]),
        "segments": f"{row['segments']:g}",
        "s/image": number(row["seconds_per_image"], ".2g"),
        "n": row["n"],
    }


def _figures(row: Json) -> Json:
    return {
        "pixel acc.": number(row["pixel_accuracy"]["value"], ".3f"),
        "class acc.": number(row["mean_class_accuracy"]["value"], ".3f"),
        "mIoU (95 %)": with_interval(row["miou"]),
        "best overlap": number(row["best_overlap"]["value"], ".3f"),
    }


VIEWS = Views({"arms": arms})
