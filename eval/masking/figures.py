"""Accuracy over the masked fraction, and area over the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.masking.result import MaskingResult, arm_name
from eval.metrics.interval import bootstrap_mean
from eval.report import COLOURS, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "top1": "top-1 accuracy",
    "probability": "probability of the true class",
    "frechet_vit": "Fréchet-ViT",
}
FLOOR = {"random": "#999999", "centre": "#bbbbbb"}
STYLES = ("-", "--")


def curves_figure(result: MaskingResult) -> Figure:
    """A panel each for accuracy, probability and, if measured, Fréchet-ViT, of each scorer's best layer."""
    from matplotlib.figure import Figure

    keys = [key for key in LABELS if key != "frechet_vit" or result.features is not None]
    figure = Figure(figsize=(4.6 * len(keys), 4.4), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for panel, key in zip(panels, keys, strict=True):
        for name, arm in result.best.items():
            _curve(panel, result, arm, key, _style(name, result))
        panel.set(xlabel="fraction of patches masked", xlim=(0, 1), ylabel=LABELS[key])
        panel.set_ylim(bottom=0)
        plain_axes(panel)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    first = "highest" if result.masking.order == "descending" else "lowest"
    title = f"{first} scores masked first ({result.masking.mask}), n = {result.n}, shaded: 95 % intervals"
    figure.suptitle(title, fontsize=10)
    return figure


def layers_figure(result: MaskingResult) -> Figure | None:
    """Area over the layer for each scorer of one layer, others as level lines; None for a single layer."""
    from matplotlib.figure import Figure

    layers = {arm.layer for arm in result.ranker.arms if arm.layer is not None}
    if len(layers) < 2:
        return None
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    panel = figure.subplots()
    for name in result.best:
        own = [i for i, arm in enumerate(result.ranker.arms) if arm.scorer == name]
        heights = result.areas[:, own].mean(0)
        numbers = [layer for i in own if (layer := result.ranker.arms[i].layer) is not None]
        style = _style(name, result)
        if numbers:
            panel.plot(numbers, heights, label=name, marker="o", markersize=3, **style)
        else:
            panel.axhline(heights[0], label=name, color=style["color"], linestyle=":")
    panel.set(xlabel="layer", ylabel=f"area of top-1 accuracy, n = {result.n}", xticks=sorted(layers))
    plain_axes(panel)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _curve(panel: Axes, result: MaskingResult, arm: int, key: str, style: dict[str, Any]) -> None:
    fractions = [0.0, *result.masking.fractions]
    name = arm_name(result.ranker.arms[arm])
    if key == "frechet_vit":
        panel.plot(fractions, [0.0, *(point[key] for point in result.curve(arm))], label=name, **style)
        return
    values = result.rank[:, arm] == 0 if key == "top1" else result.probability[:, arm]
    intervals = [bootstrap_mean(column, draws=2000) for column in values.T]
    panel.plot(fractions, [one.value for one in intervals], label=name, **style)
    low, high = [one.low for one in intervals], [one.high for one in intervals]
    panel.fill_between(fractions, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _style(name: str, result: MaskingResult) -> dict[str, Any]:
    """Grey for the floor, else a colour and, once they are used up, another stroke."""
    if name in FLOOR:
        return {"color": FLOOR[name], "linestyle": "--" if name == "centre" else "-"}
    place = [other for other in result.best if other not in FLOOR].index(name)
    turn, colour = divmod(place, len(COLOURS))
    return {"color": COLOURS[colour], "linestyle": STYLES[turn % len(STYLES)]}
