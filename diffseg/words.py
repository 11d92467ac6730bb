"""How much image tokens attend to the words of a caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.aggregate import Grid
from diffseg.cross import TextAttention
from diffseg.denoise import denoiser_pass
from diffseg.images import Rgb
from diffseg.label import Vote
from diffseg.settings import Settings
from diffseg.sizes import denoiser_of
from tokenrank_guidance.capture import AttentionRecord, capture

FUNCTION_WORDS = frozenset(
    """a an the of and or with in on at to by for from over under near behind beside its his her their this
    that these those is are was were be photo picture image""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Naming:
    """A caption, the words of it that may name segments, and how pixels vote."""

    caption: str
    nouns: tuple[str, ...]
    vote: Vote

    @classmethod
    def of(cls, caption: str, nouns: Sequence[str] | None, vote: Vote) -> Naming:
        """Check the nouns, or take the caption's words but for its function words, each once."""
        words = tuple(dict.fromkeys(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", caption.lower())))
        chosen = tuple(w for w in words if w not in FUNCTION_WORDS) if nouns is None else tuple(nouns)
        if not chosen:
            raise ValueError(f"caption {caption!r} has no word to name a segment by; pass nouns")
        missing = [noun for noun in chosen if not re.search(rf"(?i)(?<!\w){re.escape(noun)}(?!\w)", caption)]
        if missing:
            raise ValueError(f"nouns {missing} do not occur in the caption {caption!r}")
        return cls(caption, chosen, vote)


def word_maps(pipe: Any, image: Rgb, settings: Settings, naming: Naming) -> Float[Tensor, "n nouns"]:
    """Attention of each token of the finest grid to each noun, in a pass under the caption.

    Cross-attention where the model has it (UNets, PixArt), else the text columns of joint attention (SD3,
    FLUX). Heads and layers of one resolution are averaged, coarse queries upsampled bilinearly, resolutions
    weighted by their side, as in `aggregate`; the tokens of a word are summed.
    """
    positions = [token_positions(text_tokenizer(pipe), naming.caption, noun) for noun in naming.nouns]
    text = TextAttention()
    grids: list[Grid] = []

    def take(record: AttentionRecord) -> None:
        if record.grid is None:
            raise ValueError(f"{record.module} has no grid of image tokens")
        grids.append(record.grid)
        text.add_joint(record)

    denoiser = denoiser_of(pipe)
    with text.watching(denoiser), capture(denoiser, "all", reduce=take):
        denoiser_pass(pipe, image, settings, naming.caption)
    maps = text.maps({grid[0] * grid[1]: grid for grid in grids})
    finest = max(maps, key=lambda grid: grid[0] * grid[1])
    total = torch.stack([_weighted(matrix, grid, finest) for grid, matrix in maps.items()]).sum(0)
    return torch.stack([total[:, tokens].sum(-1) for tokens in positions], -1)


def _weighted(matrix: Float[Tensor, "m text"], grid: Grid, finest: Grid) -> Float[Tensor, "n text"]:
    image = matrix.T.unflatten(-1, grid)[None]
    side = (grid[0] * grid[1]) ** 0.5
    return side * F.interpolate(image, finest, mode="bilinear", align_corners=False)[0].flatten(1).T


def text_tokenizer(pipe: Any) -> Any:
    """The tokenizer whose tokens come first in the text that image tokens attend to: FLUX's is T5's."""
    flux = type(denoiser_of(pipe)).__name__ == "FluxTransformer2DModel"
    return pipe.tokenizer_2 if flux else pipe.tokenizer


def token_positions(tokenizer: Any, caption: str, noun: str) -> Int[Tensor, " k"]:
    """Where the tokens of `noun` are in the tokenised caption: its first place; ValueError if nowhere."""
    whole = tokenizer(caption).input_ids
    for text in (noun, f" {noun}"):
        part = tokenizer(text, add_special_tokens=False).input_ids
        for start in range(len(whole) - len(part) + 1):
            if part and whole[start : start + len(part)] == part:
                return torch.arange(start, start + len(part))
    raise ValueError(f"the tokens of {noun!r} do not occur in those of the caption {caption!r}")
