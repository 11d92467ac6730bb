"""Differences of several reports side by side, tested together."""

from __future__ import annotations

from collections.abc import Mapping

from eval.metrics.chance import Assessed, corrected
from tokenrank_guidance.markdown import markdown_table, signed
from tokenrank_guidance.report import Json

COLUMNS = ("experiment", "a − b", "difference", "p", "Holm")


def together(reports: Mapping[str, Json], field: str) -> str:
    """Each report's differences of `field` with their p, and what Holm's correction makes of all of these.

    ValueError for a report that compares nothing by it, or has no p.
    """
    pairs = {
        (name, f"{pair['a']} − {pair['b']}"): pair["metrics"].get(field)
        for name, report in reports.items()
        for pair in report["differences"]
    }
    for name in reports:
        tested = [figure for (own, _), figure in pairs.items() if own == name and figure is not None]
        if not tested or any(figure.get("p") is None for figure in tested):
            raise ValueError(f"{name} has no differences of {field} with a p")
    figures = {pair: {field: _assessed(figure)} for pair, figure in pairs.items() if figure is not None}
    holm = corrected(figures)
    rows = [
        {
            "experiment": name.partition("/")[2],
            "a − b": arms,
            "difference": signed(pairs[name, arms], chances=False),
            "p": f"{own[field].p:.3g}",
            "Holm": f"{own[field].p_holm:.3g}",
        }
        for (name, arms), own in holm.items()
    ]
    return markdown_table(rows, COLUMNS)


def _assessed(figure: Json) -> Assessed:
    low, high = figure["ci"]
    return Assessed(figure["value"], low, high, figure["n"], p=figure["p"])
