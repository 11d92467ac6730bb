"""Quality over the scale, one line per arm, and over what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eval.fidelity.measure import Measured
from eval.generate.arms import NONE, Arm, parse_arm
from eval.report import COLOURS, plain_axes
from eval.sweep.grid import without_scale

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


def sweep_figure(measured: Measured, best: Mapping[Arm, Arm], metric: str) -> Figure:
    """Rows: `metric`, the first figure measured and accuracy; left over the scale, right over evaluations.

    Evaluations are the denoiser's, per image. The left curves hold all settings but the scale as chosen;
    scale 0 is no guidance. Bars: 95 % intervals.
    """
    from matplotlib.figure import Figure

    known = next(iter(measured.figures.values()))
    metrics = [name for name in dict.fromkeys((metric, *list(known)[:1], "accuracy")) if name in known]
    figure = Figure(figsize=(10, 3.2 * len(metrics) + 0.7), layout="constrained")
    for row, name in zip(figure.subplots(len(metrics), 2, squeeze=False, sharey="row"), metrics, strict=True):
        _over_scale(row[0], measured, best, name)
        _over_cost(row[1], measured, best, name)
        row[0].set_ylabel(LABELS.get(name, name))
        for panel in row:
            plain_axes(panel)
    axes = figure.axes[0]
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    n = len(measured.arms[0])
    figure.suptitle(f"the seeds of the choice, n = {n} per setting, bars: 95 % intervals", fontsize=10)
    return figure


def _over_scale(panel: Axes, measured: Measured, best: Mapping[Arm, Arm], name: str) -> None:
    for index, (colour, chosen) in enumerate(zip(_colours(len(best)), best.values(), strict=True)):
        fixed = without_scale(chosen)
        arms = [parse_arm(one.arm) for one in measured.arms]
        curve = sorted(
            (_scale(arm), arm.text) for arm in arms if arm == Arm(NONE) or without_scale(arm) == fixed
        )
        beside = 4.0 * (index - (len(best) - 1) / 2)
        _bars(panel, measured, name, curve, (colour, fixed.text), beside)
    panel.set_xlabel("guidance scale (0: none)")


def _over_cost(panel: Axes, measured: Measured, best: Mapping[Arm, Arm], name: str) -> None:
    cost = {one.arm: one.cost["denoiser_evaluations"] for one in measured.arms}
    plain = measured.figures[NONE][name].value
    panel.axhline(plain, color="#999999", linestyle=":", linewidth=1)
    panel.plot(cost[NONE], plain, "s", color="#444444")
    panel.annotate("none", (cost[NONE], plain), (6, 5), textcoords="offset points", fontsize=8)
    for colour, (base, chosen) in zip(_colours(len(best)), best.items(), strict=True):
        arms = [arm for arm in measured.arms if parse_arm(arm.arm).name == base.name]
        own = [arm.arm for arm in arms if _extends(parse_arm(arm.arm), base)]
        heights = [measured.figures[arm][name].value for arm in own]
        panel.plot([cost[arm] for arm in own], heights, "o", color=colour, alpha=0.35, markersize=5)
        panel.plot(
            cost[chosen.text], measured.figures[chosen.text][name].value, "*", color=colour, markersize=13
        )
    panel.set_xlabel("denoiser evaluations per image (star: chosen)")


def _bars(
    panel: Axes,
    measured: Measured,
    name: str,
    curve: Sequence[tuple[float, str]],
    style: tuple[str, str],
    beside: float,
) -> None:
    """A curve with its intervals, drawn `beside` points to the right, so that no bar hides another."""
    from matplotlib.transforms import ScaledTranslation

    colour, label = style
    inches = panel.figure.dpi_scale_trans
    place = panel.transData + ScaledTranslation(beside / 72, 0, inches)
    look = {"color": colour, "label": label, "marker": "o", "markersize": 4, "capsize": 2}
    figures = [measured.figures[arm][name] for _, arm in curve]
    heights = [one.value for one in figures]
    reach = [[one.value - one.low for one in figures], [one.high - one.value for one in figures]]
    scales = [scale for scale, _ in curve]
    panel.errorbar(scales, heights, reach, **look, transform=place)
    ends = [(scale, end) for scale, one in zip(scales, figures, strict=True) for end in (one.low, one.high)]
    panel.update_datalim(ends)  # what is drawn beside its place does not count for the limits
    panel.autoscale_view()


def _scale(arm: Arm) -> float:
    return 0.0 if arm.name == NONE else float(dict(arm.settings)["scale"])


def _extends(arm: Arm, base: Arm) -> bool:
    """Whether the arm has all of the base's settings that are not tried."""
    return set(without_scale(base).settings) <= set(arm.settings)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
