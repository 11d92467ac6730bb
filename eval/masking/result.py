"""What became of every image, and what that says of the rankings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float, Int

from eval.best import best_of
from eval.masking.arms import Arm, Ranker
from eval.masking.measure import Masking
from eval.masking.ranking import masked_count
from eval.metrics.frechet import frechet_from_features
from eval.metrics.interval import bootstrap_mean, paired_difference
from eval.report import markdown_table
from tokenrank_guidance.interval import Interval, difference
from tokenrank_guidance.report import Json

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
    fid: Sequence[Sequence[float]] | None = None  # of each arm at each fraction

    @property
    def n(self) -> int:
        return len(self.rank)

    def to_json(self) -> Json:
        """`results`, one entry per arm, and what the `plain` pictures gave.

        The `differences` are those of any two scorers, each at its best layer.
        """
        keys = [arm.key for arm in self.ranker.arms]
        return {
            "results": [self._arm(i) for i in range(len(keys))],
            "differences": [
                difference(keys[i], keys[j], {"auc": self._less(i, j)})
                for i, j in permutations(self.best.values(), 2)
            ],
            "plain": self._point(0, 0),
        }

    def markdown(self) -> str:
        """One row per arm, sorted so that the best ranking comes first, then by name."""
        rows = [self._row(i) for i in range(len(self.ranker.arms))]
        rows.sort(key=lambda row: (self._sign * float(row["AUC top-1"]), row["scorer"]))
        return markdown_table(rows, tuple(rows[0]))

    @cached_property
    def areas(self) -> Float[np.ndarray, "images arms"]:
        """Area of top-1 accuracy of each image and arm."""
        return (self.rank[..., 1:] == 0).mean(-1)

    @cached_property
    def best(self) -> dict[str, int]:
        """For each scorer its arm at the layer of the best area, the first of equal ones."""
        good = -self._sign * self.areas.mean(0)
        arms = self.ranker.arms
        return best_of(range(len(arms)), lambda i: arms[i].scorer, lambda i: good[i])

    @property
    def _sign(self) -> int:
        """1 where a low area is a good one, else −1."""
        return 1 if self.masking.order == "descending" else -1

    def curve(self, arm: int) -> list[Json]:
        """Each fraction's share of right pictures, mean probability and, where kept, Fréchet distance."""
        return [self._point(arm, i) for i in range(1, self.rank.shape[-1])]

    def _arm(self, index: int) -> Json:
        arm = self.ranker.arms[index]
        return {
            "arm": arm.key,
            "scorer": arm.scorer,
            "layer": arm.layer,
            "module": None if arm.layer is None else self.ranker.layers[arm.layer],
            "auc": self._area(index),
            "auc_probability": bootstrap_mean(self.probability[:, index, 1:].mean(-1)),
            "n": self.n,
            "curve": self.curve(index),
        }

    def _area(self, index: int) -> Interval:
        return bootstrap_mean(self.areas[:, index])

    def _less(self, index: int, other: int) -> Interval:
        """This arm's area less another's; a difference whose interval holds 0 is none."""
        return paired_difference(self.areas[:, index], self.areas[:, other])

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
        if self.fid is not None and i > 0:
            point["fid"] = self.fid[arm][i - 1]
        return point

    def _frechet(self, arm: int, i: int) -> float:
        assert self.features is not None
        plain, masked = (torch.from_numpy(self.features[:, arm, j]) for j in (0, i))
        return frechet_from_features(plain, masked)

    def _row(self, index: int) -> Json:
        arm, area = self.ranker.arms[index], self._area(index)
        floor = self.best.get(FLOOR, index)
        less = None if floor == index else self._less(index, floor)
        return {
            "scorer": arm.scorer,
            "layer": arm.layer,
            "AUC top-1": f"{area.value:.3f}",
            "95 % interval": area.ends(),
            "AUC probability": f"{self.probability[:, index, 1:].mean():.3f}",
            "− random": None if less is None else f"{less.value:+.3f} {less.ends()}",
            "n": self.n,
        }


def arm_name(arm: Arm) -> str:
    """For people: the scorer, and its layer where it has one."""
    return arm.scorer if arm.layer is None else f"{arm.scorer} (layer {arm.layer})"
