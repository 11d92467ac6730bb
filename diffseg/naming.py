"""How much image tokens attend to the words of a caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffseg.cross import TextAttention
from diffseg.maps.aggregate import Grid
from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.images import Rgb
from diffseg.settings import Settings
from diffseg.vote import Vote
from diffseg.words import WORD, Positions, check_words, word_tokens
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.components import denoiser_of

FUNCTION_WORDS = frozenset(
    """a an the of and or with in on at to by for from over under near behind beside its his her their this
    that these those is are was were be photo picture image""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Naming:
    """A caption, the words of it that may name segments, where their tokens are, and how pixels vote."""

    caption: str
    nouns: tuple[str, ...]
    tokens: Positions
    vote: Vote

    @classmethod
    def of(cls, pipe: Any, caption: str, nouns: Sequence[str] | None, vote: Vote) -> Naming:
        """Find the nouns, or the caption's words but for its function words, each once.

        Raises ValueError for a caption without such words, and for nouns that `word_tokens` does not find.
        """
        chosen = _content_words(caption) if nouns is None else check_words("nouns", nouns)
        return cls(caption, chosen, word_tokens(pipe, caption, chosen), vote)


def _content_words(caption: str) -> tuple[str, ...]:
    words = dict.fromkeys(re.findall(WORD, caption.lower()))
    chosen = tuple(word for word in words if word not in FUNCTION_WORDS)
    if not chosen:
        raise ValueError(f"caption {caption!r} has no word to name a segment by; pass nouns")
    return chosen


def word_maps(pipe: Any, image: Rgb, settings: Settings, naming: Naming) -> Float[Tensor, "n nouns"]:
    """Attention of each token of the finest grid to each noun, in a pass under the caption.

    Cross-attention where the model has it (UNets, PixArt), else the text columns of joint attention (SD3,
    FLUX). Heads and layers of one resolution are averaged, coarse queries upsampled bilinearly, resolutions
    weighted by their side, as in `aggregate`; the tokens of a word are summed.
    """
    text = TextAttention()
    grids: list[Grid] = []

    def take(record: AttentionRecord) -> None:
        if record.plane is None:
            raise ValueError(f"{record.module} has no grid of image tokens")
        grids.append(record.plane)
        text.add_joint(record)

    denoiser = denoiser_of(pipe)
    with text.watching(denoiser), capture(denoiser, "all", reduce=take):
        denoiser_pass(pipe, image, settings, naming.caption)
    maps = text.maps({grid[0] * grid[1]: grid for grid in grids})
    finest = max(maps, key=lambda grid: grid[0] * grid[1])
    total = torch.stack([_weighted(matrix, grid, finest) for grid, matrix in maps.items()]).sum(0)
    return torch.stack([total[:, tokens].sum(-1) for tokens in naming.tokens], -1)


def _weighted(matrix: Float[Tensor, "m text"], grid: Grid, finest: Grid) -> Float[Tensor, "n text"]:
    image = matrix.T.unflatten(-1, grid)[None]
    side = (grid[0] * grid[1]) ** 0.5
    return side * F.interpolate(image, finest, mode="bilinear", align_corners=False)[0].flatten(1).T
