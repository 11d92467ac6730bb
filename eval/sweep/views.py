"""A report's tables, and its figure: quality over the scale, one line per arm, and over what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from eval.fidelity import views as fidelity
from eval.generate.arms import Arm, parse_arm
from eval.report import COLOURS, plain_axes
from eval.sweep.grid import without_scale
from eval.views import Views
from sag.kinds import NONE
from tokenrank_guidance.markdown import Spelt
from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "fid": "FID (lower is better)",
    "frechet_vit": "Fréchet-ViT, not FID (lower is better)",
    "kid": "KID (lower is better)",
    "kid_vit": "KID on ViT features (lower is better)",
    "isc": "Inception Score",
    "isc_vit": "Inception Score on a ViT",
    "accuracy": "accuracy of a classifier",
}


def reported(report: Json) -> str:
    """What was chosen, and its figures on other seeds."""
    config = report["config"]
    chosen = "; ".join(f"{base}: {arm}" for base, arm in report["chosen"].items())
    said = (
        f"Chosen by {config['by']} on seeds from {config['choose_seed']} on: {chosen}. On seeds from "
        f"{config['report_seed']} on:"
    )
    return f"{said}\n\n{fidelity.arms(report)}"


def tried(report: Json) -> str:
    """The figures of all settings."""
    return f"All settings, on the seeds of the choice:\n\n{fidelity.arms(report['choosing'])}"


def sweep_figure(report: Json) -> Figure:
    """Rows: what was chosen by, the first figure and accuracy; left over the scale, right over evaluations.

    Evaluations are the denoiser's, per image. The left curves hold all settings but the scale as chosen;
    scale 0 is no guidance. Bars: 95 % intervals.
    """
    from matplotlib.figure import Figure

    rows = {row["arm"]: row for row in report["choosing"]["results"]}
    best = {parse_arm(base): parse_arm(arm) for base, arm in report["chosen"].items()}
    known = rows[NONE]["metrics"]
    wanted = dict.fromkeys((report["config"]["by"], *list(known)[:1], "accuracy"))
    metrics = [name for name in wanted if name in known]
    figure = Figure(figsize=(10, 3.2 * len(metrics) + 0.7), layout="constrained")
    panels = figure.subplots(len(metrics), 2, squeeze=False, sharey="row")
    for row, name in zip(panels, metrics, strict=True):
        _over_scale(row[0], rows, best, name)
        _over_cost(row[1], rows, best, name)
        row[0].set_ylabel(LABELS.get(name, name))
        for panel in row:
            plain_axes(panel)
    axes = figure.axes[0]
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    n = rows[NONE]["n"]
    figure.suptitle(f"the seeds of the choice, n = {n} per setting, bars: 95 % intervals", fontsize=10)
    return figure


def _over_scale(panel: Axes, rows: Mapping[str, Json], best: Mapping[Arm, Arm], name: str) -> None:
    arms = [parse_arm(arm) for arm in rows]
    for index, (colour, chosen) in enumerate(zip(_colours(len(best)), best.values(), strict=True)):
        fixed = without_scale(chosen)
        own = [arm for arm in arms if arm == Arm(NONE) or without_scale(arm) == fixed]
        curve = sorted((_scale(arm), arm.text) for arm in own)
        beside = 4.0 * (index - (len(best) - 1) / 2)
        points = [(scale, rows[arm]["metrics"][name]) for scale, arm in curve]
        _bars(panel, points, (colour, fixed.text), beside)
    panel.set_xlabel("guidance scale (0: none)")


def _over_cost(panel: Axes, rows: Mapping[str, Json], best: Mapping[Arm, Arm], name: str) -> None:
    def point(arm: str) -> tuple[float, float]:
        return rows[arm]["cost"]["denoiser_evaluations"], rows[arm]["metrics"][name]["value"]

    panel.axhline(point(NONE)[1], color="#999999", linestyle=":", linewidth=1)
    panel.plot(*point(NONE), "s", color="#444444")
    panel.annotate("none", point(NONE), (6, 5), textcoords="offset points", fontsize=8)
    for colour, (base, chosen) in zip(_colours(len(best)), best.items(), strict=True):
        named = [parse_arm(arm) for arm in rows if parse_arm(arm).name == base.name]
        points = [point(arm.text) for arm in named if _extends(arm, base)]
        panel.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.35, markersize=5)
        panel.plot(*point(chosen.text), "*", color=colour, markersize=13)
    panel.set_xlabel("denoiser evaluations per image (star: chosen)")


def _bars(panel: Axes, points: Sequence[tuple[float, Spelt]], style: tuple[str, str], beside: float) -> None:
    """A curve with its intervals, drawn `beside` points to the right, so that no bar hides another."""
    from matplotlib.transforms import ScaledTranslation

    colour, label = style
    inches = panel.figure.dpi_scale_trans
    place = panel.transData + ScaledTranslation(beside / 72, 0, inches)
    look = {"color": colour, "label": label, "marker": "o", "markersize": 4, "capsize": 2}
    scales, heights = [scale for scale, _ in points], [one["value"] for _, one in points]
    ends = np.array([one["ci"] for _, one in points], dtype=float)  # None, of too few images, is NaN
    reach = [heights - ends[:, 0], ends[:, 1] - heights]
    panel.errorbar(scales, heights, reach, **look, transform=place)
    # What is drawn beside its place does not count for the limits, nor does a place with a NaN.
    own = np.where(np.isnan(ends), np.array(heights)[:, None], ends)
    panel.update_datalim([(scale, y) for scale, ys in zip(scales, own, strict=True) for y in ys])
    panel.autoscale_view()


def _scale(arm: Arm) -> float:
    return 0.0 if arm.name == NONE else float(dict(arm.settings)["scale"])


def _extends(arm: Arm, base: Arm) -> bool:
    """Whether the arm has all of the base's settings that are not tried."""
    return set(without_scale(base).settings) <= set(arm.settings)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


VIEWS = Views(
    {"reported": reported, "differences": fidelity.differences, "tried": tried}, {"sweep": sweep_figure}
)
