"""One picture's heat map against its mask, in numbers that add up over pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from pydantic import Strict
from torch import Tensor

from eval.metrics.average_precision import map_average_precision
from eval.metrics.foreground import SIDE, foreground_confusion, one_hot_counts
from eval.schema import Count, OfArms, Schema, Share
from eval.zero_shot.protocol import OWN_SIZE, Protocol


@dataclass(frozen=True, eq=False)
class Tally:
    """`confusion`: pixels by truth and prediction; `one_hot`: intersection and union of two-channel masks.

    `precision` is the picture's average precision.
    """

    confusion: Int[np.ndarray, "2 2"]
    one_hot: Int[np.ndarray, "2"]
    precision: float

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Tally:
        """From what `to_json` gave."""
        precision = record["precision"]
        number = float("nan") if precision is None else precision
        return cls(np.array(record["confusion"]), np.array(record["one_hot"]), number)


Pair = Annotated[tuple[Count, Count], Strict(False)]  # JSON has no tuples, but lists
Square = Annotated[tuple[Pair, Pair], Strict(False)]


class MeasuredArm(Schema):
    """A `Tally` in the journal; null: not a number."""

    confusion: Square
    one_hot: Pair
    precision: Share | None


class Measured(OfArms):
    """A finished picture."""

    arms: dict[str, MeasuredArm]


def tally(heat: Float[Tensor, "gh gw"], mask: Int[np.ndarray, "h w"], protocol: Protocol = OWN_SIZE) -> Tally:
    """What the protocol reads off the map, by default as Chefer et al. do, against the mask."""
    scaled, predicted = protocol.read(heat, (mask.shape[0], mask.shape[1]))
    return Tally(
        foreground_confusion(predicted, mask),
        one_hot_counts(predicted, mask),
        map_average_precision(scaled, mask),
    )


def squared(
    image: Image.Image, mask: Int[np.ndarray, "h w"]
) -> tuple[Float[Tensor, "3 side side"], Int[np.ndarray, "side side"]]:
    """Image (bilinear) and mask (nearest) at the protocol's 224×224."""
    pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    small = Image.fromarray(mask.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return torch.from_numpy(pixels.copy()).movedim(-1, 0).float() / 255, np.asarray(small).astype(np.int64)
