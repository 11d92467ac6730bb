"""Names for segments, from how much each pixel attends to the words of a caption."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.choices import VOTES
from diffseg.maps.aggregate import coarse_index
from diffseg.result import Segmentation
from tokenrank_guidance.markov.precision import full_precision

Vote = Literal["majority", "mean"]


def name_segments(
    segmentation: Segmentation, words: Float[Tensor, "n nouns"], nouns: tuple[str, ...], vote: Vote
) -> tuple[str | None, ...]:
    """The noun of each segment, None for one without pixels; `words` is attention of tokens to nouns.

    Every noun's map is divided by its Euclidean norm, so that no word wins by being attended to everywhere.
    "majority": each pixel votes for its strongest noun and the segment takes the noun of most votes. "mean":
    the noun of the largest mean over its pixels. Of equals the first noun.
    """
    if vote not in VOTES:
        raise ValueError(f"vote: got {vote!r}, expected one of {VOTES}")
    shares = words / words.norm(dim=0, keepdim=True).clamp_min(torch.finfo(words.dtype).tiny)
    pixels = pixel_counts(segmentation.labels, len(segmentation), segmentation.grid).to(shares)
    ballots = shares
    if vote == "majority":
        ballots = torch.nn.functional.one_hot(shares.argmax(-1), len(nouns)).to(shares.dtype)
    with full_precision(shares.device):
        winners = (pixels @ ballots).argmax(-1).tolist()
    seen = pixels.sum(-1).tolist()
    return tuple(nouns[winner] if count else None for winner, count in zip(winners, seen, strict=True))


def pixel_counts(
    labels: Int[Tensor, "h w"], segments: int, grid: tuple[int, int]
) -> Int[Tensor, "segments n"]:
    """How many pixels of each segment lie in each token."""
    tokens = coarse_index((labels.shape[0], labels.shape[1]), grid).to(labels.device)
    n = grid[0] * grid[1]
    return (labels.flatten() * n + tokens).bincount(minlength=segments * n).view(segments, n)
