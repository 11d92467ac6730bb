"""What is compared: ways to choose anchors, each at some thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffseg.choices import BLIND
from eval.best import Figure, best_of, read_report
from eval.schema import Schema

Threshold = float | Literal["auto"]
MEASURES = ("pixel_accuracy", "mean_class_accuracy", "miou", "best_overlap")


@dataclass(frozen=True)
class Arm:
    """Anchors by name, and τ in nats of every merge; "auto" finds it for each image."""

    anchors: str
    threshold: Threshold

    @property
    def key(self) -> str:
        return f"{self.anchors}@{self.threshold}"

    @property
    def reads_rank(self) -> bool:
        """Whether the anchors depend on the chain at all."""
        return self.anchors not in BLIND


def grid_of_arms(anchors: Sequence[str], thresholds: Sequence[Threshold]) -> list[Arm]:
    """Every way to choose anchors at every threshold."""
    return [Arm(name, threshold) for name in anchors for threshold in thresholds]


def chosen_arms(anchors: Sequence[str], thresholds: Mapping[str, Threshold]) -> list[Arm]:
    """Each way to choose anchors at its own threshold; ValueError for one without."""
    missing = [name for name in anchors if name not in thresholds]
    if missing:
        raise ValueError(f"no threshold is known for {', '.join(missing)}, only for {', '.join(thresholds)}")
    return [Arm(name, thresholds[name]) for name in anchors]


def baseline(arms: Sequence[Arm], index: int) -> int | None:
    """The blind arm that arm `index` is compared with: at the same τ, or at its own where it has just one.

    None for the blind arm itself, and where there is none.
    """
    for name in BLIND:
        blind = [i for i, arm in enumerate(arms) if arm.anchors == name]
        if blind:
            same = [i for i in blind if arms[i].threshold == arms[index].threshold]
            found = same or (blind if len(blind) == 1 else [])
            return found[0] if found and arms[index].anchors != name else None
    return None


class _Row(Schema):
    anchors: str
    kl_threshold: Threshold
    pixel_accuracy: Figure
    mean_class_accuracy: Figure
    miou: Figure
    best_overlap: Figure


class _Report(Schema):
    results: list[_Row]


def best_thresholds(report: Path, measure: str) -> dict[str, Threshold]:
    """Each anchor choice's τ of the highest of the `MEASURES` in an earlier report, of equal ones the first.

    Raises ValueError for another file.
    """
    rows = read_report(report, "eval.segmentation", _Report).results
    best = best_of(rows, lambda row: row.anchors, lambda row: getattr(row, measure).value)
    return {name: row.kl_threshold for name, row in best.items()}
