"""A report's tables and figures: rankings, layers, accuracy over the masked fraction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.best import best_of
from eval.masking.arms import Arm
from eval.report import COLOURS, plain_axes
from eval.views import Views
from tokenrank_guidance.markdown import markdown_table, signed, with_interval
from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINES = ("random", "cls_attention", "rollout")  # what rankings are compared with in the table
LABELS = {
    "top1": "top-1 accuracy",
    "probability": "probability of the true class",
    "frechet_vit": "Fréchet-ViT",
}
FLOOR = {"random": "#999999", "centre": "#bbbbbb"}
STYLES = ("-", "--")


def best_rows(report: Json) -> dict[str, Json]:
    """Each scorer's row at the layer of the best area, the first of equal ones.

    Low is good where the highest scores are masked first, high where the lowest are.
    """
    sign = -1 if report["order"] == "descending" else 1
    return best_of(report["results"], lambda row: row["scorer"], lambda row: sign * row["auc"]["value"])


def rankings(report: Json) -> str:
    """A line per ranking at its best layer, the best first: its area, and that less the baselines'."""
    best = best_rows(report)
    less = {(one["a"], one["b"]): one["metrics"]["auc"] for one in report["differences"]}
    sign = 1 if report["order"] == "descending" else -1
    rows = [
        {
            "ranking": name,
            "layer": row["layer"],
            "area (95 %)": with_interval(row["auc"]),
            **{
                f"− {base}": signed(less.get((row["arm"], best[base]["arm"])))
                for base in BASELINES
                if base in best
            },
            "n": row["n"],
        }
        for name, row in sorted(best.items(), key=lambda one: (sign * one[1]["auc"]["value"], one[0]))
    ]
    return markdown_table(rows, tuple(rows[0]))


def layers(report: Json) -> str:
    """A line per layer with each ranking's area there, and one for those of no layer; none of one layer."""
    numbers = layers_of(report)
    if len(numbers) < 2:
        return ""
    areas = {(row["scorer"], row["layer"]): with_interval(row["auc"]) for row in report["results"]}
    scorers = list(dict.fromkeys(name for name, layer in areas if layer is not None))
    rows = [{"layer": n} | {name: areas.get((name, n)) for name in scorers} for n in numbers]
    others = ", ".join(f"{name} {area}" for (name, layer), area in areas.items() if layer is None)
    table = markdown_table(rows, ("layer", *scorers))
    return f"{table}\n\nOf no single layer: {others}." if others else table


def layers_of(report: Json) -> list[int]:
    """The layers that rankings were read at."""
    return sorted({row["layer"] for row in report["results"]} - {None})


def curves_figure(report: Json) -> Figure:
    """A panel each for accuracy, probability and, if measured, Fréchet-ViT, of each scorer's best layer."""
    from matplotlib.figure import Figure

    best = best_rows(report)
    points = next(iter(best.values()))["curve"]
    keys = [key for key in LABELS if key in points[0]]
    figure = Figure(figsize=(4.6 * len(keys), 4.4), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for panel, key in zip(panels, keys, strict=True):
        for name, row in best.items():
            _curve(panel, row, key, report["plain"], _style(name, best))
        panel.set(xlabel="fraction of patches masked", xlim=(0, 1), ylabel=LABELS[key])
        panel.set_ylim(bottom=0)
        plain_axes(panel)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    first = "highest" if report["order"] == "descending" else "lowest"
    title = f"{first} scores masked first ({report['mask']}), n = {report['n']}, shaded: 95 % intervals"
    figure.suptitle(title, fontsize=10)
    return figure


def layers_figure(report: Json) -> Figure | None:
    """Area over the layer for each scorer of one layer, others as level lines; None for a single layer."""
    from matplotlib.figure import Figure

    numbers, best = layers_of(report), best_rows(report)
    if len(numbers) < 2:
        return None
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    panel = figure.subplots()
    for name in best:
        own = [row for row in report["results"] if row["scorer"] == name]
        heights = [row["auc"]["value"] for row in own]
        style = _style(name, best)
        if own[0]["layer"] is None:
            panel.axhline(heights[0], label=name, color=style["color"], linestyle=":")
        else:
            panel.plot([row["layer"] for row in own], heights, label=name, marker="o", markersize=3, **style)
    panel.set(xlabel="layer", ylabel=f"area of top-1 accuracy, n = {report['n']}", xticks=numbers)
    plain_axes(panel)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _curve(panel: Axes, row: Json, key: str, plain: Json, style: dict[str, Any]) -> None:
    fractions = [0.0, *(point["fraction"] for point in row["curve"])]
    name = Arm(row["scorer"], row["layer"]).title
    if key == "frechet_vit":
        panel.plot(fractions, [0.0, *(point[key] for point in row["curve"])], label=name, **style)
        return
    figures = [plain[key], *(point[key] for point in row["curve"])]
    panel.plot(fractions, [one["value"] for one in figures], label=name, **style)
    if figures[0]["ci"][0] is not None:
        low, high = zip(*(one["ci"] for one in figures), strict=True)
        panel.fill_between(fractions, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _style(name: str, best: dict[str, Json]) -> dict[str, Any]:
    """Grey for the floor, else a colour and, once they are used up, another stroke."""
    if name in FLOOR:
        return {"color": FLOOR[name], "linestyle": "--" if name == "centre" else "-"}
    turn, colour = divmod([other for other in best if other not in FLOOR].index(name), len(COLOURS))
    return {"color": COLOURS[colour], "linestyle": STYLES[turn % len(STYLES)]}


VIEWS = Views({"rankings": rankings, "layers": layers}, {"curves": curves_figure, "layers": layers_figure})
