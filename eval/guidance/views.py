"""A report's tables: how masks agree with SAG's, and what guidance does to contrast and sharpness."""

from __future__ import annotations

from eval.views import Views
from tokenrank_guidance.markdown import markdown_table, signed, with_interval
from tokenrank_guidance.report import Json

MASKS, LOOKS = ("share", "overlap", "correlation"), ("contrast", "sharpness")


def masks(report: Json) -> str:
    """A line for each scorer."""
    rows = [
        {"scorer": row["scorer"]} | {key: with_interval(row[key]) for key in MASKS} for row in report["masks"]
    ]
    return markdown_table(rows, tuple(rows[0]))


def images(report: Json) -> str:
    """A line for each arm, and one for real images where they were measured; differences to the first arm."""
    less = {one["a"]: one["metrics"] for one in report["differences"]}
    first = report["results"][0]["arm"]
    rows = [
        {"arm": row["arm"]}
        | {key: with_interval(row[key]) for key in LOOKS}
        | {f"{key} − {first}": signed(less.get(row["arm"], {}).get(key)) for key in LOOKS}
        for row in report["results"]
    ]
    return markdown_table(rows, tuple(rows[0]))


VIEWS = Views({"masks": masks, "images": images})
