"""What became of every image, and what that says of the rankings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from eval.masking.arms import Arm, Ranker
from eval.masking.measure import Masking
from eval.masking.ranking import masked_count
from eval.metrics.frechet import frechet_from_features
from eval.metrics.interval import Interval, bootstrap_mean, paired_difference
from eval.report import markdown_table

Json = dict[str, Any]
COLUMNS = ("scorer", "layer", "AUC top-1", "95 % interval", "AUC probability", "− random", "n")
FLOOR = "random"


@dataclass(frozen=True)
class MaskingResult:
    """Every image under every arm; the curve starts with the plain pictures, as in `Outcome`.

    The area under a curve is the mean over the fractions, without the plain picture: over .1, .2, … .9 that
    is the mean accuracy. With `order="descending"` lower says that the ranking found what matters, with
    "ascending" higher does.
    """

    ranker: Ranker
    masking: Masking
    patches: int
    rank: Int[np.ndarray, "images arms curve"]
    probability: Float[np.ndarray, "images arms curve"]
    features: Float[np.ndarray, "images arms curve dim"] | None = None

    @property
    def n(self) -> int:
        return len(self.rank)

    def to_json(self) -> Json:
        """`results`, one entry per arm, and what the `plain` pictures gave."""
        return {"results": [self._arm(i) for i in range(len(self.ranker.arms))], "plain": self._point(0, 0)}

    def markdown(self) -> str:
        """One row per arm, sorted so that the best ranking comes first, then by name."""
        rows = [self._row(i) for i in range(len(self.ranker.arms))]
        rows.sort(key=lambda row: (self._sign * float(row["AUC top-1"]), row["scorer"]))
        return markdown_table(rows, COLUMNS)

    @cached_property
    def areas(self) -> Float[np.ndarray, "images arms"]:
        """Area of top-1 accuracy of each image and arm."""
        return (self.rank[..., 1:] == 0).mean(-1)

    @cached_property
    def best(self) -> dict[str, int]:
        """For each scorer its arm at the layer of the best area, the first of equal ones."""
        mean = self._sign * self.areas.mean(0)
        best: dict[str, int] = {}
        for i, arm in enumerate(self.ranker.arms):
            if arm.scorer not in best or mean[i] < mean[best[arm.scorer]]:
                best[arm.scorer] = i
        return best

    @property
    def _sign(self) -> int:
        """1 where a low area is a good one, else −1."""
        return 1 if self.masking.order == "descending" else -1

    def curve(self, arm: int) -> list[Json]:
        """Each fraction's share of right pictures, mean probability and, where kept, Fréchet distance."""
        return [self._point(arm, i) for i in range(1, self.rank.shape[-1])]

    def _arm(self, index: int) -> Json:
        arm = self.ranker.arms[index]
        area = bootstrap_mean(self.areas[:, index])
        probability = bootstrap_mean(self.probability[:, index, 1:].mean(-1))
        return {
            "scorer": arm.scorer,
            "layer": arm.layer,
            "module": None if arm.layer is None else self.ranker.layers[arm.layer],
            "auc": area.value,
            "auc_ci": ends(area),
            "auc_probability": probability.value,
            "auc_probability_ci": ends(probability),
            "n": self.n,
            "curve": self.curve(index),
            "differences": self._differences(index),
        }

    def _differences(self, index: int) -> Json:
        """This arm's area less that of every other scorer, each at its best layer; {} where this is not its
        own.

        A difference whose interval holds 0 is none.
        """
        if self.best[self.ranker.arms[index].scorer] != index:
            return {}
        others = {name: other for name, other in self.best.items() if other != index}
        differences = {
            name: paired_difference(self.areas[:, index], self.areas[:, other])
            for name, other in others.items()
        }
        return {
            name: {"layer": self.ranker.arms[others[name]].layer, "value": one.value, "ci": ends(one)}
            for name, one in differences.items()
        }

    def _point(self, arm: int, i: int) -> Json:
        fraction = 0.0 if i == 0 else self.masking.fractions[i - 1]
        rank = self.rank[:, arm, i]
        point = {
            "fraction": fraction,
            "masked": masked_count(fraction, self.patches),
            "top1": float((rank == 0).mean()),
            "top5": float((rank < 5).mean()),
            "probability": float(self.probability[:, arm, i].mean()),
        }
        if self.features is not None and i > 0:
            point["frechet_vit"] = self._frechet(arm, i) if self.n > 1 else None
        return point

    def _frechet(self, arm: int, i: int) -> float:
        assert self.features is not None
        plain, masked = (torch.from_numpy(self.features[:, arm, j]) for j in (0, i))
        return frechet_from_features(plain, masked)

    def _row(self, index: int) -> Json:
        arm, area = self.ranker.arms[index], bootstrap_mean(self.areas[:, index])
        return {
            "scorer": arm.scorer,
            "layer": arm.layer,
            "AUC top-1": f"{area.value:.3f}",
            "95 % interval": spelt(area),
            "AUC probability": f"{self.probability[:, index, 1:].mean():.3f}",
            "− random": self._over_floor(index),
            "n": self.n,
        }

    def _over_floor(self, index: int) -> str | None:
        floor = self.best.get(FLOOR)
        if floor is None or floor == index:
            return None
        difference = paired_difference(self.areas[:, index], self.areas[:, floor])
        return f"{difference.value:+.3f} {spelt(difference)}"


def ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def spelt(interval: Interval) -> str:
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def arm_name(arm: Arm) -> str:
    """For people: the scorer, and its layer where it has one."""
    return arm.scorer if arm.layer is None else f"{arm.scorer} (layer {arm.layer})"
