"""How λ2 of the heads and what their maps are worth are ranked together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, Strict

from eval.metrics.confusion import mean_iou, totals
from eval.metrics.interval import FEWER, bootstrap_statistic
from eval.report import markdown_table
from eval.schema import Schema, Share
from eval.zero_shot.tally import Square
from tokenrank_guidance.interval import Interval

Json = dict[str, Any]
WITHIN = "_within_layers"


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture under every head, layers one after the other: λ2, and its map's pixels and precision."""

    lambda2: Float[np.ndarray, " heads"]
    confusion: Int[np.ndarray, "maps heads 2 2"]
    precision: Float[np.ndarray, "maps heads"]

    def to_json(self) -> Json:
        return {name: getattr(self, name).tolist() for name in ("lambda2", "confusion", "precision")}

    @classmethod
    def of(cls, record: Json) -> Picture:
        """From what `to_json` gave."""
        lambda2, precision = (np.array(record[name], dtype=float) for name in ("lambda2", "precision"))
        return cls(lambda2, np.array(record["confusion"]), precision)


class Measured(Schema):
    """A `Picture` in the journal, and how many heads each layer has; null: not a number."""

    layers: list[Annotated[tuple[str, Annotated[int, Field(ge=1, le=4096)]], Strict(False)]]
    lambda2: list[float | None]
    confusion: list[list[Square]]
    precision: list[list[Share | None]]

    def check(self, maps: int) -> None:
        """ValueError unless there are as many numbers as maps and heads."""
        heads = sum(count for _, count in self.layers)
        by_map = [[len(one) for one in part] for part in (self.confusion, self.precision)]
        if len(self.lambda2) != heads or by_map != [[heads] * maps] * 2:
            raise ValueError(f"it does not have the numbers of {maps} maps of {heads} heads")


@dataclass(frozen=True, eq=False)
class HeadsResult:
    """All pictures; `layers` says for each head which layer it is of, in running order."""

    maps: Sequence[str]
    names: Sequence[str]
    layers: Int[np.ndarray, " heads"]
    pictures: Sequence[Picture]

    @classmethod
    def of(cls, maps: Sequence[str], records: Sequence[Json]) -> HeadsResult:
        """From what `Measured` describes; ValueError for pictures of different layers."""
        if any(record["layers"] != records[0]["layers"] for record in records):
            raise ValueError("the journal is damaged: its pictures have different layers")
        names, heads = zip(*records[0]["layers"], strict=True)
        layers = np.repeat(np.arange(len(names)), heads)
        return cls(maps, names, layers, [Picture.of(record) for record in records])

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
        pooled, statistic = METRICS[metric]
        counts = np.stack([pooled(picture, index) for picture in self.pictures])
        adjust = self._less_layer_mean if within else lambda values: values

        def rho(sums: Float[np.ndarray, "draws heads k"]) -> Float[np.ndarray, " draws"]:
            return spearman(adjust(sums[..., 0]), adjust(statistic(sums[..., 1:])))

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
                f"spearman_{metric}{suffix}": (
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
            | {f"{key}_over_heads": heads for key, (_, heads) in found.items()}
            | {"n": self.n, "heads": self._heads(index)}
            for index, (name, found) in enumerate(zip(self.maps, self.correlations, strict=True))
        ]
        return {"results": rows, "layers": list(self.names)}

    def markdown(self) -> str:
        """A line for each map and correlation."""
        lines = [
            {
                "map": name,
                "λ2 and": key.removeprefix("spearman_").replace("_", " "),
                "Spearman's ρ": pictures.value,
                "95 % over pictures": pictures.ends(),
                "95 % over heads": heads.ends(),
                "n": self.n,
            }
            for name, found in zip(self.maps, self.correlations, strict=True)
            for key, (pictures, heads) in found.items()
        ]
        return markdown_table(lines, tuple(lines[0]))

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


def _pixels(picture: Picture, index: int) -> Float[np.ndarray, "heads 5"]:
    confusion = picture.confusion[index]
    return np.concatenate([picture.lambda2[:, None], confusion.reshape(len(confusion), 4)], -1)


def _precisions(picture: Picture, index: int) -> Float[np.ndarray, "heads 2"]:
    return np.stack([picture.lambda2, picture.precision[index]], -1)


def _pooled_miou(sums: Float[np.ndarray, "draws heads 4"]) -> Float[np.ndarray, "draws heads"]:
    return mean_iou(totals(sums.reshape(*sums.shape[:-1], 2, 2)))


def _summed_precision(sums: Float[np.ndarray, "draws heads 1"]) -> Float[np.ndarray, "draws heads"]:
    return sums[..., 0]  # as many pictures everywhere: ranked as the mean


METRICS: dict[str, tuple[Callable[[Picture, int], Any], Callable[[Any], Any]]] = {
    "miou": (_pixels, _pooled_miou),
    "map": (_precisions, _summed_precision),
}
