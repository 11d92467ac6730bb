"""What became of every image, and what that says of the rankings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int

from eval.best import best_of
from eval.masking.arms import Ranker
from eval.masking.measure import Masking
from eval.masking.ranking import masked_count
from eval.masking.views import VIEWS
from eval.metrics.chance import Assessed, compared
from eval.metrics.frechet import frechet_from_features
from eval.metrics.interval import DRAWS, bootstrap_means
from tokenrank_guidance.interval import Interval, difference
from tokenrank_guidance.report import Json, plain

POINT_DRAWS = 2000  # of each point of the curves, of which there are many


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
        arms = range(len(self.ranker.arms))
        return {
            "n": self.n,
            "mask": self.masking.mask,
            "order": self.masking.order,
            "results": [self._arm(i) for i in arms],
            "differences": [difference(a, b, less) for (a, b), less in self._compared.items()],
            "plain": self._points[0][0],
        }

    def markdown(self) -> str:
        """One row per ranking at its best layer, the best first; of several layers every area, too."""
        return VIEWS.markdown(plain(self.to_json()))

    @cached_property
    def areas(self) -> Float[np.ndarray, "images arms"]:
        """Area of top-1 accuracy of each image and arm."""
        return (self.rank[..., 1:] == 0).mean(-1)

    @cached_property
    def best(self) -> dict[str, int]:
        """For each scorer its arm at the layer of the best area, the first of equal ones."""
        arms, sign = self.ranker.arms, -1 if self.masking.order == "descending" else 1
        return best_of(range(len(arms)), lambda i: arms[i].scorer, lambda i: sign * self._auc[i].value)

    def _arm(self, index: int) -> Json:
        arm = self.ranker.arms[index]
        return {
            "arm": arm.key,
            "scorer": arm.scorer,
            "layer": arm.layer,
            "module": None if arm.layer is None else self.ranker.layers[arm.layer],
            "auc": self._auc[index],
            "auc_probability": self._auc_probability[index],
            "n": self.n,
            "curve": self._points[index][1:],
        }

    @cached_property
    def _auc(self) -> list[Interval]:
        return bootstrap_means(self.areas)

    @cached_property
    def _auc_probability(self) -> list[Interval]:
        return bootstrap_means(self.probability[..., 1:].mean(-1))

    @cached_property
    def _compared(self) -> dict[tuple[str, str], dict[str, Assessed]]:
        """Of any two scorers one's area less the other's, both ways round."""
        arms = {self.ranker.arms[i].key: {"auc": (self.areas[:, i], None)} for i in self.best.values()}
        found = compared(arms, [*combinations(arms, 2)], DRAWS)
        return found | {(b, a): {"auc": _turned(less["auc"])} for (a, b), less in found.items()}

    @cached_property
    def _points(self) -> list[list[Json]]:
        """Of each arm the plain picture, then each fraction."""
        seen = {"top1": self.rank == 0, "top5": self.rank < 5, "probability": self.probability}
        shape = self.rank.shape[1:]
        figures = {name: _of_each(values, shape) for name, values in seen.items()}
        return [
            [
                self._at(arm, i) | {name: found[arm][i] for name, found in figures.items()}
                for i in range(shape[1])
            ]
            for arm in range(shape[0])
        ]

    def _at(self, arm: int, i: int) -> Json:
        """How much is masked, and what is not a mean over pictures."""
        fraction = 0.0 if i == 0 else self.masking.fractions[i - 1]
        point: Json = {"fraction": fraction, "masked": masked_count(fraction, self.patches)}
        if self.features is not None and i > 0:
            point["frechet_vit"] = self._frechet(arm, i) if self.n > 1 else None
        if self.fid is not None and i > 0:
            point["fid"] = self.fid[arm][i - 1]
        return point

    def _frechet(self, arm: int, i: int) -> float:
        assert self.features is not None
        whole, masked = (torch.from_numpy(self.features[:, arm, j]) for j in (0, i))
        return frechet_from_features(whole, masked)


def _turned(less: Assessed) -> Assessed:
    return replace(less, value=-less.value, low=-less.high, high=-less.low)


def _of_each(values: np.ndarray, shape: tuple[int, ...]) -> list[list[Interval]]:
    """The mean over images with its interval, for each arm and point of the curve."""
    found = bootstrap_means(values.reshape(len(values), -1), POINT_DRAWS)
    return [found[first : first + shape[1]] for first in range(0, len(found), shape[1])]
