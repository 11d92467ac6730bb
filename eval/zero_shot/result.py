"""What became of every picture, and what that says of the methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from eval.metrics.confusion import mean_iou, pixel_accuracy
from eval.metrics.foreground import ca_miou
from eval.metrics.interval import Interval, bootstrap_mean, bootstrap_statistic, paired_difference
from eval.metrics.interval import paired_statistic as paired
from eval.report import markdown_table
from eval.zero_shot.arms import CURVE, Arm
from eval.zero_shot.tally import Tally

Json = dict[str, Any]
DRAWS = 4000
POOLED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "acc": ("confusion", pixel_accuracy),
    "miou": ("confusion", mean_iou),
    "ca_miou": ("one_hot", ca_miou),
}
MAP = "map"  # the mean over pictures
COLUMNS = ("method", "acc", "mIoU", "95 % interval", "mAP", "95 % interval of mAP", "ca_miou", "n")


@dataclass(frozen=True)
class ZeroShotResult:
    """Every picture under every arm; `labels` are the pictures' concepts. Counts are pooled over pictures."""

    arms: Sequence[Arm]
    labels: Sequence[str]
    pictures: Sequence[Sequence[Tally]]  # by picture, then arm

    @property
    def n(self) -> int:
        return len(self.pictures)

    @cached_property
    def shown(self) -> list[int]:
        """The arms that are not points of the curve."""
        return [i for i, arm in enumerate(self.arms) if not arm.name.startswith(CURVE)]

    @cached_property
    def rows(self) -> list[Json]:
        """One entry per method, for JSON."""
        return [self._row(i) for i in self.shown]

    @cached_property
    def curve(self) -> list[Json]:
        """The bounces, by their direction and number."""
        points = [i for i in range(len(self.arms)) if i not in self.shown]
        return [self._point(i) for i in points]

    @cached_property
    def everywhere(self) -> Json:
        """What calling every pixel foreground gets: a method that is not above it has found nothing."""
        confusion = np.stack([_all_foreground(picture[0]) for picture in self.pictures])
        intervals = {
            name: bootstrap_statistic(confusion, statistic, DRAWS)
            for name, (field, statistic) in POOLED.items()
            if field == "confusion"
        }
        return _spread(intervals)

    def to_json(self) -> Json:
        return {"results": self.rows, "curve": self.curve, "everywhere": self.everywhere}

    def markdown(self) -> str:
        """A line per method; then one per class, with each method's mIoU."""
        lines = [_line(row) for row in self.rows]
        names = [row["method"] for row in self.rows]
        classes: dict[str, Json] = {}
        for row in self.rows:
            for one in row["per_class"]:
                start = {"class": one["class"], "images": one["images"]}
                classes.setdefault(one["class"], start)[row["method"]] = one["miou"]
        table = markdown_table(list(classes.values()), ("class", "images", *names))
        return f"{markdown_table(lines, COLUMNS)}\n\nmIoU of each class:\n\n{table}"

    def scores(self, index: int) -> Float[np.ndarray, " pictures"]:
        """Each picture's own mIoU under an arm."""
        return mean_iou(self._stack(index, "confusion"))

    def _stack(self, index: int, field: str) -> np.ndarray:
        return np.stack([np.asarray(getattr(picture[index], field)) for picture in self.pictures])

    def _measured(self, index: int) -> dict[str, Interval]:
        pooled = {
            name: bootstrap_statistic(self._stack(index, field), statistic, DRAWS)
            for name, (field, statistic) in POOLED.items()
        }
        return pooled | {MAP: bootstrap_mean(self._stack(index, "precision"), DRAWS)}

    def _point(self, index: int) -> Json:
        options = self.arms[index].options
        return {"direction": options.direction, "n": options.n, **_spread(self._measured(index))}

    def _row(self, index: int) -> Json:
        earlier = self.shown[: self.shown.index(index)]
        return {
            "method": self.arms[index].name,
            **_spread(self._measured(index)),
            "n": self.n,
            "differences": {self.arms[i].name: self._difference(index, i) for i in earlier},
            "per_class": self._per_class(index),
        }

    def _difference(self, index: int, other: int) -> Json:
        """This arm less another on the same pictures; one whose interval holds 0 is none."""
        intervals = {
            name: paired(self._stack(index, field), self._stack(other, field), statistic, DRAWS)
            for name, (field, statistic) in POOLED.items()
        }
        precision = self._stack(index, "precision"), self._stack(other, "precision")
        intervals |= {MAP: paired_difference(*precision, DRAWS)}
        return {name: {"value": one.value, "ci": [one.low, one.high]} for name, one in intervals.items()}

    def _per_class(self, index: int) -> list[Json]:
        return [self._one_class(index, label) for label in sorted(set(self.labels))]

    def _one_class(self, index: int, label: str) -> Json:
        own = np.array([one == label for one in self.labels])
        values = {
            name: float(statistic(self._stack(index, field)[own].sum(0)))
            for name, (field, statistic) in POOLED.items()
        }
        precision = float(self._stack(index, "precision")[own].mean())
        return {"class": label, "images": int(own.sum()), **values, MAP: precision}


def _all_foreground(one: Tally) -> np.ndarray:
    truth = one.confusion.sum(1)
    return np.stack([np.zeros(2, dtype=truth.dtype), truth], axis=1)


def _spread(intervals: dict[str, Interval]) -> Json:
    flat: Json = {}
    for name, one in intervals.items():
        flat |= {name: one.value, f"{name}_ci": [one.low, one.high]}
    return flat


def _line(row: Json) -> Json:
    ends = [f"[{low:.3f}, {high:.3f}]" for low, high in (row["miou_ci"], row["map_ci"])]
    values = (row["method"], row["acc"], row["miou"], ends[0], row["map"], ends[1], row["ca_miou"], row["n"])
    return dict(zip(COLUMNS, values, strict=True))
