"""What is compared: ways to choose anchors, each at some thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffseg.choices import BLIND
from eval.schema import Schema, validated
from tokenrank_guidance.files.reading import read_json

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


class _Row(Schema, extra="allow"):
    anchors: str
    kl_threshold: Threshold


class _Report(Schema):
    results: list[_Row]


def best_thresholds(report: Path, measure: str) -> dict[str, Threshold]:
    """Each anchor choice's τ of the highest `measure` in an earlier report, of equal ones the first.

    Raises ValueError for another file.
    """
    try:
        rows = validated(_Report, read_json(report)).results
        values = [validated(float, row.model_dump().get(measure)) for row in rows]
    except ValueError as error:
        raise ValueError(f"{report} is not a report of eval.segmentation: {error}") from error
    best: dict[str, tuple[float, Threshold]] = {}
    for row, value in zip(rows, values, strict=True):
        if row.anchors not in best or value > best[row.anchors][0]:
            best[row.anchors] = value, row.kl_threshold
    return {name: threshold for name, (_, threshold) in best.items()}
