"""How λ2 of the heads and what their maps are worth are ranked together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, Strict

from eval.metrics.confusion import mean_iou, totals
from eval.metrics.interval import FEWER, bootstrap_statistic
from eval.schema import Record, Share
from eval.zero_shot.heads.views import OVER_HEADS, RHO, WITHIN
from eval.zero_shot.tally import Square
from tokenrank_guidance.interval import Interval
from tokenrank_guidance.report import Json

METRICS = ("miou", "map")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture under every head, layers one after the other: λ2, and its map's pixels and precision."""

    lambda2: Float[np.ndarray, " heads"]
    confusion: Int[np.ndarray, "maps heads 2 2"]
    precision: Float[np.ndarray, "maps heads"]

    def to_json(self) -> Json:
        return vars(self)

    @classmethod
    def of(cls, record: Json) -> Picture:
        """From what `to_json` gave."""
        lambda2, precision = (np.array(record[name], dtype=float) for name in ("lambda2", "precision"))
        return cls(lambda2, np.array(record["confusion"]), precision)


class Measured(Record):
    """A `Picture` in the journal, and how many heads each layer has; null: not a number."""

    layers: list[Annotated[tuple[str, Annotated[int, Field(ge=1, le=4096)]], Strict(False)]]
    lambda2: list[float | None]
    confusion: list[list[Square]]
    precision: list[list[Share | None]]

    def check(self, expected: int) -> None:
        """ValueError unless there are as many numbers as the `expected` maps and the heads."""
        heads = sum(count for _, count in self.layers)
        by_map = [[len(one) for one in part] for part in (self.confusion, self.precision)]
        if len(self.lambda2) != heads or by_map != [[heads] * expected] * 2:
            raise ValueError(f"it does not have the numbers of {expected} maps of {heads} heads")


@dataclass(frozen=True, eq=False)
class HeadsResult:
    """All pictures; `layers` says for each head which layer it is of, in running order.

    `start` says in words where walks start.
    """

    maps: Sequence[str]
    names: Sequence[str]
    layers: Int[np.ndarray, " heads"]
    pictures: Sequence[Picture]
    start: str = ""

    @classmethod
    def of(cls, maps: Sequence[str], records: Sequence[Json], start: str = "") -> HeadsResult:
        """From what `Measured` describes; ValueError for pictures of different layers."""
        if any(record["layers"] != records[0]["layers"] for record in records):
            raise ValueError("the journal is damaged: its pictures have different layers")
        names, heads = zip(*records[0]["layers"], strict=True)
        layers = np.repeat(np.arange(len(names)), heads)
        return cls(maps, names, layers, [Picture.of(record) for record in records], start)

    @property
    def n(self) -> int:
        return len(self.pictures)

    @property
    def lambda2(self) -> Float[np.ndarray, " heads"]:
        """The mean over pictures."""
        return np.stack([picture.lambda2 for picture in self.pictures]).mean(0)

    def miou(self, index: int) -> Float[np.ndarray, " heads"]:
        """Of each head's map, counts pooled over pictures."""
        return mean_iou(totals(np.stack([picture.confusion[index] for picture in self.pictures]).sum(0)))

    def precision(self, index: int) -> Float[np.ndarray, " heads"]:
        """Mean average precision of each head's map."""
        return np.stack([picture.precision[index] for picture in self.pictures]).mean(0)

    def correlation(self, index: int, metric: str, within: bool) -> Interval:
        """Spearman's ρ of λ2 and "miou" or "map" over heads, with the bootstrap's interval over pictures.

        `within`: both less their layer's mean first, which leaves how heads of one layer differ. The heads
        are all that this model has: the interval says what other pictures would have given, and `over_heads`
        how much it hangs on single heads.
        """
        counts = np.stack([_beside(one.lambda2, _measured(one, index, metric)) for one in self.pictures])
        adjust = self._less_layer_mean if within else lambda values: values

        def rho(sums: Float[np.ndarray, "draws heads k"]) -> Float[np.ndarray, " draws"]:
            return spearman(adjust(sums[..., 0]), adjust(_scores(sums[..., 1:], metric)))

        return bootstrap_statistic(counts, rho, FEWER)

    def over_heads(self, index: int, metric: str, within: bool) -> Interval:
        """The same ρ with the 95 % interval where heads are drawn with replacement instead of pictures."""
        values = np.stack([self.lambda2, {"miou": self.miou, "map": self.precision}[metric](index)])
        x, y = self._less_layer_mean(values) if within else values
        drawn = np.random.default_rng(0).integers(len(x), size=(FEWER, len(x)))
        low, high = np.nanquantile(spearman(x[drawn], y[drawn]), [0.025, 0.975])
        return Interval(float(spearman(x, y)), float(low), float(high), len(x))

    @cached_property
    def correlations(self) -> list[dict[str, tuple[Interval, Interval]]]:
        """Of each map, by metric, over all heads and within layers: ρ over pictures, and over heads."""
        return [
            {
                f"{RHO}{metric}{suffix}": (
                    self.correlation(index, metric, within),
                    self.over_heads(index, metric, within),
                )
                for metric in METRICS
                for within, suffix in ((False, ""), (True, WITHIN))
            }
            for index in range(len(self.maps))
        ]

    def to_json(self) -> Json:
        """`results`, an entry for each map, and the `layers`' names; the n of `…_over_heads` counts heads."""
        rows = [
            {"map": name}
            | {key: pictures for key, (pictures, _) in found.items()}
            | {f"{key}{OVER_HEADS}": heads for key, (_, heads) in found.items()}
            | {"n": self.n, "heads": self._heads(index)}
            for index, (name, found) in enumerate(zip(self.maps, self.correlations, strict=True))
        ]
        return {"results": rows, "differences": [], "layers": list(self.names), "start": self.start}

    def _heads(self, index: int) -> list[Json]:
        columns = zip(
            self.layers.tolist(), self.lambda2, self.miou(index), self.precision(index), strict=True
        )
        return [
            {"layer": layer, "lambda2": float(value), "miou": float(miou), "map": float(precision)}
            for layer, value, miou, precision in columns
        ]

    def _less_layer_mean(self, values: Float[np.ndarray, "draws heads"]) -> Float[np.ndarray, "draws heads"]:
        own = (self.layers[:, None] == np.unique(self.layers)).astype(np.float64)
        return values - values @ own / own.sum(0) @ own.T


def spearman(
    x: Float[np.ndarray, "*draws heads"], y: Float[np.ndarray, "*draws heads"]
) -> Float[np.ndarray, "*draws"]:
    """The correlation of ranks, ties sharing their mean rank; NaN where a side is constant."""
    from scipy.stats import rankdata

    ranks = [np.asarray(rankdata(side, axis=-1)) for side in (x, y)]
    a, b = (side - side.mean(-1, keepdims=True) for side in ranks)
    size = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.where(size > 0, (a * b).sum(-1) / np.where(size > 0, size, 1), np.nan)


def _measured(picture: Picture, index: int, metric: str) -> Float[np.ndarray, "heads k"]:
    """What a metric of each head's map is made of: counts of pixels, or the precision itself."""
    parts = picture.confusion if metric == "miou" else picture.precision
    return parts[index].reshape(len(picture.lambda2), -1)


def _beside(lambda2: Float[np.ndarray, " heads"], parts: np.ndarray) -> Float[np.ndarray, "heads k"]:
    return np.concatenate([lambda2[:, None], parts], -1)


def _scores(sums: Float[np.ndarray, "draws heads k"], metric: str) -> Float[np.ndarray, "draws heads"]:
    """The metric of counts over pictures; a sum of precisions ranks as their mean, of as many pictures."""
    return mean_iou(totals(sums.reshape(*sums.shape[:-1], 2, 2))) if metric == "miou" else sums[..., 0]
