"""λ2 against mIoU of every head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.zero_shot.heads.result import WITHIN, HeadsResult
from tokenrank_guidance.interval import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "row": "row select (1 bounce)",
    "column": "column select",
    "bounce": "2 bounces",
    "tokenrank": "TokenRank",
}


def heads_figure(result: HeadsResult, model: str, start: str) -> Figure:
    """A panel for each kind of map, a point for each head, coloured by its layer."""
    import matplotlib
    from matplotlib.figure import Figure

    count = len(result.names)
    figure = Figure(figsize=(3.1 * len(result.maps) + 1.0, 3.7), layout="constrained")
    panels = figure.subplots(1, len(result.maps), squeeze=False, sharey=True)[0]
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.95, count))
    for index, (panel, kind) in enumerate(zip(panels, result.maps, strict=True)):
        scores = result.miou(index)
        for layer in range(count):
            own = result.layers == layer
            panel.scatter(
                result.lambda2[own],
                100 * scores[own],
                s=30,
                color=colours[layer],
                edgecolors="white",
                linewidths=0.5,
                label=str(layer),
            )
        found = result.correlations[index]
        told = [
            _told(name, *found[f"spearman_miou{key}"]) for name, key in (("ρ", ""), ("in a layer", WITHIN))
        ]
        panel.set_title("\n".join([TITLES[kind], *told]), fontsize=8)
        panel.set_xlabel("λ2 of the head", fontsize=9)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].set_ylabel("mIoU of the head's own map (%)", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, title="layer", loc="outside right center", frameon=False)
    for one in (legend.get_title(), *legend.get_texts()):
        one.set_fontsize(8)
    text = f"{model}, {result.n} pictures; walks from {start}"
    figure.suptitle(f"{text}; Spearman's ρ (95 % over pictures; over heads)", fontsize=9)
    return figure


def _told(name: str, pictures: Interval, heads: Interval) -> str:
    ends = (pictures.low, pictures.high, heads.low, heads.high)
    low, high, least, most = (f"{end:+.2f}".replace("-", "−") for end in ends)
    return f"{name} {pictures.value:+.2f} ({low} to {high}; {least} to {most})".replace("-", "−")
