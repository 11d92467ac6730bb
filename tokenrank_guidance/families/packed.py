"""Latents that pipelines pack: each token holds a square of 2×2 latent pixels (FLUX, Qwen-Image)."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.families.calling import Calling, Edit
from tokenrank_guidance.families.tokens import Grid

SIDE = 2


def packed(latents: Float[Tensor, "b c h w"], side: int = SIDE) -> Float[Tensor, "b n c_in"]:
    """Squares of `side`×`side` in tokens, row by row."""
    height, width = latents.shape[-2:]
    squares = latents.unflatten(3, (width // side, side)).unflatten(2, (height // side, side))
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Float[Tensor, "b n c_in"], grid: Grid, side: int = SIDE) -> Float[Tensor, "b c h w"]:
    """The latents of the tokens of a grid: what `packed` was given."""
    squares = tokens.unflatten(1, grid).unflatten(-1, (-1, side, side))
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)


def edit_packed(
    tokens: Float[Tensor, "b n c_in"], grid: Grid, edit: Edit, side: int = SIDE
) -> Float[Tensor, "b n c_in"]:
    """Edits the grid's tokens as an image; those of reference images (Kontext) follow, and stay."""
    own = grid[0] * grid[1]
    return torch.cat([packed(edit(unpacked(tokens[:, :own], grid, side)), side), tokens[:, own:]], 1)


edit_pixels = partial(edit_packed, side=1)  # where each token is one latent pixel

PACKED = Calling(prompt_first=True, channel_axis=-1, timestep_scale=1000.0, edit=edit_packed)
