"""A report's table and figure: how λ2 of the heads and what their maps are worth are ranked together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.views import Views
from tokenrank_guidance.markdown import interval_of, markdown_table, number
from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RHO, OVER_HEADS, WITHIN = "spearman_", "_over_heads", "_within_layers"
FORM = "+.2f"
TITLES = {
    "row": "row select (1 bounce)",
    "column": "column select",
    "bounce": "2 bounces",
    "tokenrank": "TokenRank",
}


def correlations(report: Json) -> str:
    """A line for each map and correlation: ρ, its interval over pictures, and that over heads."""
    lines = [
        {
            "map": row["map"],
            "λ2 and": key.removeprefix(RHO).replace("_", " "),
            "Spearman's ρ": number(row[key]["value"], FORM),
            "95 % over pictures": interval_of(row[key], FORM) or None,
            "95 % over heads": interval_of(row[key + OVER_HEADS], FORM) or None,
            "n": row["n"],
        }
        for row in report["results"]
        for key in row
        if key.startswith(RHO) and not key.endswith(OVER_HEADS)
    ]
    return markdown_table(lines, tuple(lines[0]))


def heads_figure(report: Json) -> Figure:
    """λ2 against mIoU: a panel for each kind of map, a point for each head, coloured by its layer."""
    import matplotlib
    from matplotlib.figure import Figure

    rows, count = report["results"], len(report["layers"])
    figure = Figure(figsize=(3.1 * len(rows) + 1.0, 3.7), layout="constrained")
    panels = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, count))
    for panel, row in zip(panels, rows, strict=True):
        for layer in range(count):
            own = [head for head in row["heads"] if head["layer"] == layer]
            panel.scatter(
                [head["lambda2"] for head in own],
                [100 * head["miou"] for head in own],
                s=30,
                color=colours[layer],
                edgecolors="white",
                linewidths=0.5,
                label=str(layer),
            )
        told = [_told(name, row, f"{RHO}miou{key}") for name, key in (("ρ", ""), ("in a layer", WITHIN))]
        panel.set_title("\n".join([TITLES[row["map"]], *told]), fontsize=8)
        panel.set_xlabel("λ2 of the head", fontsize=9)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].set_ylabel("mIoU of the head's own map (%)", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, title="layer", loc="outside right center", frameon=False)
    for one in (legend.get_title(), *legend.get_texts()):
        one.set_fontsize(8)
    text = f"{_subject(report['config'])}, {report['n']} pictures; walks from {report['start']}"
    figure.suptitle(f"{text}; Spearman's ρ (95 % over pictures; over heads)", fontsize=9)
    return figure


def _subject(config: Json) -> str:
    return f"{Path(config['model']).name} on {Path(config['data']).name.removesuffix('.parquet')}"


def _told(name: str, row: Json, key: str) -> str:
    ends = "; ".join(interval_of(row[one], FORM) for one in (key, key + OVER_HEADS))
    return f"{name} {number(row[key]['value'], FORM)} ({ends})"


VIEWS = Views({"correlations": correlations}, {"heads": heads_figure})
