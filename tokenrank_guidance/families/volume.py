"""Videos as one chain: tokens are patches of frames, rows and columns of latents, and all attend to all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Inputs
from tokenrank_guidance.families.tokens import ForwardPass, Grid, TokenSpans, image_only

Patch = tuple[int, int, int]


def patch_of(model: nn.Module) -> Patch:
    """Frames, rows and columns of latents in a token; configurations have them in one number or three."""
    config: Any = model.config
    sides = config.patch_size
    if not isinstance(sides, int):
        frames, rows, columns = sides
        return frames, rows, columns
    return config.get("patch_size_t") or 1, sides, sides


def volume_grid(call: ForwardPass) -> Grid:
    """(t, h, w) of latents (B, C, T, H, W)."""
    sizes = call.inputs["hidden_states"].shape[2:]
    return tuple(size // patch for size, patch in zip(sizes, patch_of(call.model), strict=True))


def volume_spans(call: ForwardPass) -> TokenSpans:
    """Patches of the latents, and no other tokens."""
    return image_only(volume_grid(call))


def before_text(grid: Grid, text: int, history: int = 0) -> TokenSpans:
    """The video's tokens, then the text's, after any of what was drawn before."""
    video = history + math.prod(grid)
    return TokenSpans(video + text, grid, slice(history, video), slice(video, video + text))


def after_text(grid: Grid, text: int) -> TokenSpans:
    """The text's tokens, then the video's."""
    total = text + math.prod(grid)
    return TokenSpans(total, grid, slice(text, total), slice(0, text))


def layers(leaf: str, *stacks: str) -> Callable[[nn.Module], dict[str, bool]]:
    """The attention layers named `leaf` of the blocks of `stacks`: where names tell what attends to what."""

    def find(model: nn.Module) -> dict[str, bool]:
        parts = [name.split(".") for name, _ in model.named_modules()]
        blocks = [part for part in parts if len(part) == 3 and part[2] == leaf]
        return {".".join(part): True for stack in stacks for part in blocks if part[0] == stack}

    return find


def held_by_time(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "b 1 t h w"] | None:
    """Latents of tokens whose own time is below the others': they are given, not drawn."""
    times = inputs["timestep"]
    if times.ndim < 2:
        return None
    patch, sizes = patch_of(denoiser), inputs["hidden_states"].shape[2:]
    grid = [size // side for size, side in zip(sizes, patch, strict=True)]
    held = (times < times.amax(1, keepdim=True)).unflatten(1, (1, *grid))
    for axis, side in enumerate(patch, 2):
        held = held.repeat_interleave(side, axis)
    return held


def first_frame(inputs: Inputs) -> Bool[Tensor, "1 1 t 1 1"]:
    """The first frame of latents (B, C, T, H, W)."""
    sample = inputs["hidden_states"]
    return (torch.arange(sample.shape[2], device=sample.device) == 0)[None, None, :, None, None]


def after_first_frame(video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t-1 h w"]:
    """All frames but the first."""
    return video[:, :, 1:]
