"""What a segmentation is."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from tokenrank_guidance.brief import brief


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One image's segments.

    labels: the segment of every pixel, at the image's own size; indices into `masks` and `names`. A segment
    that is nowhere the strongest has no pixel.
    masks: each segment's mean attention map over the token grid, sum 1.
    anchors: rows and columns of the anchor tokens, in merging order.
    scores: TokenRank of every token, N·π, mean 1.
    names: a word of the caption for each segment, where one was given, and None for a segment without pixels.
    thresholds: the τ of each merge, which "auto" has found.
    """

    labels: Int[Tensor, "h w"]
    masks: Float[Tensor, "segments gh gw"]
    anchors: Int[Tensor, "anchors 2"]
    scores: Float[Tensor, "gh gw"]
    names: tuple[str | None, ...] | None = None
    thresholds: tuple[float, ...] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width in tokens."""
        return self.masks.shape[1], self.masks.shape[2]

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        return brief(self)
