"""From token scores to the mask of tokens that guidance degrades: each or not, or each by a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sag.scorers import AcrossLayers, Scorer
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import require


@torch.no_grad()
def score_image(records: Sequence[AttentionRecord], scorer: Scorer) -> Float[Tensor, "b h w"]:
    """Mean over layers of the image tokens' scores, each with mean 1, on the finest layer's grid.

    A scorer across layers gives this itself. Raises ValueError for a scorer that returns another shape or
    something not finite.
    """
    if isinstance(scorer, AcrossLayers):
        return _checked(scorer(records), records[0].batch)
    scores = [_on_grid(record, scorer(record)) for record in records]
    height, width = max((score.shape[-2:] for score in scores), key=lambda grid: grid[0] * grid[1])
    if len(scores) == 1:
        return scores[0]
    return torch.stack([_resize(score, (height, width)) for score in scores]).mean(0)


def _checked(score: Float[Tensor, "b h w"], batch: int) -> Float[Tensor, "b h w"]:
    shape = _shape(score)
    if len(shape) != 3 or shape[0] not in (1, batch):
        raise ValueError(f"the scorer returned {_told(score)}; expected a tensor ({batch}, h, w)")
    require(score.isfinite().all(), lambda: ValueError("the scorer returned values that are not finite"))
    return score.expand(batch, -1, -1)


def _on_grid(record: AttentionRecord, score: Float[Tensor, "b n"]) -> Float[Tensor, "b h w"]:
    if record.grid is None:
        raise ValueError(f"{record.module} does not know its grid of image tokens; choose another layer")
    expected = (record.batch, record.grid[0] * record.grid[1])
    if _shape(score) != expected:
        raise ValueError(f"the scorer returned {_told(score)}; expected a tensor (batch, tokens) {expected}")
    where = f"the scorer returned values that are not finite at {record.module}"
    require(score.isfinite().all(), lambda: ValueError(where))
    return score.unflatten(1, record.grid)


def _shape(score: object) -> tuple[int, ...]:
    return tuple(score.shape) if isinstance(score, Tensor) else ()


def _told(score: object) -> str:
    return str(_shape(score)) if isinstance(score, Tensor) else type(score).__name__


def _resize(score: Float[Tensor, "b h w"], grid: tuple[int, int]) -> Float[Tensor, "b gh gw"]:
    fine = F.interpolate(score.unsqueeze(1), grid, mode="bilinear", align_corners=False).squeeze(1)
    return fine / fine.mean(dim=(1, 2), keepdim=True)


def salient(score: Float[Tensor, "b h w"], threshold: float) -> Bool[Tensor, "b h w"]:
    """Tokens whose score is above `threshold`; 1 is the mean (Hong et al. 2023, eq. 13)."""
    return score > threshold


def proportional(score: Float[Tensor, "b h w"], threshold: float) -> Float[Tensor, "b h w"]:
    """Weights w = min(score / (2·threshold), 1): 0 at score 0, ½ at the `threshold` > 0, 1 from twice it on.

    The tokens of weight above ½ are those of the hard mask.
    """
    return (score / (2 * threshold)).clamp(0, 1)


MASKS: dict[str, Callable[[Tensor, float], Tensor]] = {"hard": salient, "soft": proportional}
