"""From token scores to the mask of tokens that guidance degrades: each or not, or each by a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sag.across_layers import AcrossLayers
from sag.scorers import Scorer
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import require


@torch.no_grad()
def score_image(records: Sequence[AttentionRecord], scorer: Scorer) -> Float[Tensor, "b *grid"]:
    """Mean over layers of the image tokens' scores, each with mean 1, on the finest layer's grid.

    That is (h, w), or (t, h, w) for a video, each of whose frames has mean 1 where they are rows of the map.

    A scorer across layers gives this itself. Raises ValueError for a scorer that returns another shape or
    something not finite.
    """
    if isinstance(scorer, AcrossLayers):
        return _by_video(_checked(scorer(records), records[0]), records[0])
    scores = [_on_grid(record, scorer(record)) for record in records]
    if len(scores) == 1:
        return scores[0]
    finest = max((score.shape[1:] for score in scores), key=math.prod)
    return torch.stack([_resize(score, finest) for score in scores]).mean(0)


def _checked(score: Float[Tensor, "rows *grid"], record: AttentionRecord) -> Float[Tensor, "batch *grid"]:
    axes = "h, w" if record.grid is None or len(record.grid) == 2 else "t, h, w"
    shape, batch = _shape(score), record.batch
    if len(shape) != 1 + len(axes.split()) or shape[0] not in (1, batch):
        raise ValueError(f"the scorer returned {_told(score)}; expected a tensor ({batch}, {axes})")
    require(score.isfinite().all(), lambda: ValueError("the scorer returned values that are not finite"))
    return score.expand(batch, *shape[1:])


def _on_grid(record: AttentionRecord, score: Float[Tensor, "batch n"]) -> Float[Tensor, "b *grid"]:
    if record.grid is None:
        raise ValueError(f"{record.module} does not know its grid of image tokens; choose another layer")
    expected = (record.batch, math.prod(record.grid))
    if _shape(score) != expected:
        raise ValueError(f"the scorer returned {_told(score)}; expected a tensor (batch, tokens) {expected}")
    where = f"the scorer returned values that are not finite at {record.module}"
    require(score.isfinite().all(), lambda: ValueError(where))
    return _by_video(score.unflatten(1, record.grid), record)


def _by_video(score: Float[Tensor, "batch *grid"], record: AttentionRecord) -> Float[Tensor, "b *all"]:
    """Frames that are rows of the batch on an axis of their own."""
    return score if record.frames is None else score.unflatten(0, (-1, record.frames))


def _shape(score: object) -> tuple[int, ...]:
    return tuple(score.shape) if isinstance(score, Tensor) else ()


def _told(score: object) -> str:
    return str(_shape(score)) if isinstance(score, Tensor) else type(score).__name__


def _resize(score: Float[Tensor, "b *grid"], grid: Sequence[int]) -> Float[Tensor, "b *fine"]:
    mode = "bilinear" if len(grid) == 2 else "trilinear"
    fine = F.interpolate(score.unsqueeze(1), tuple(grid), mode=mode, align_corners=False).squeeze(1)
    return fine / fine.mean(dim=tuple(range(1, fine.ndim)), keepdim=True)


def salient(score: Float[Tensor, "b *grid"], threshold: float) -> Bool[Tensor, "b *grid"]:
    """Tokens whose score is above `threshold`; 1 is the mean (Hong et al. 2023, eq. 13)."""
    return score > threshold


def proportional(score: Float[Tensor, "b *grid"], threshold: float) -> Float[Tensor, "b *grid"]:
    """Weights w = min(score / (2·threshold), 1): 0 at score 0, ½ at the `threshold` > 0, 1 from twice it on.

    The tokens of weight above ½ are those of the hard mask.
    """
    return (score / (2 * threshold)).clamp(0, 1)


MASKS: dict[str, Callable[[Tensor, float], Tensor]] = {"hard": salient, "soft": proportional}
