"""A report's tables: the masks of each scorer, and the images of each arm."""

from __future__ import annotations

from eval.views import Views
from tokenrank_guidance.markdown import markdown_table, with_interval
from tokenrank_guidance.report import Json


def masks(report: Json) -> str:
    """A line for each scorer: how many tokens it masks, and how that agrees with SAG's mask and scores."""
    return _lines(report["masks"])


def images(report: Json) -> str:
    """A line for each arm, and one for real images: contrast and sharpness."""
    return _lines(report["results"])


def _lines(rows: list[Json]) -> str:
    lines = [
        {key: value if isinstance(value, str) else with_interval(value, ".3f") for key, value in row.items()}
        for row in rows
    ]
    return markdown_table(lines, tuple(lines[0]))


VIEWS = Views({"masks": masks, "images": images})
