"""HiDream: image tokens first, then T5's, Llama's last layer's and those of a Llama layer for each block."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Grid,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_grid,
    processed,
)

LLAMA = "encoder_hidden_states_llama3"


def _image(call: ForwardPass) -> tuple[int, Grid]:
    """How many tokens the image has, with its padding, and their grid: squares alone are not padded."""
    latents, model = call.inputs["hidden_states"], call.model
    if latents.ndim == 3:  # patches already
        height, width = (int(side) for side in call.inputs["img_sizes"][0])
        return latents.shape[1], (height, width)
    height, width = grid = patch_grid(call)
    longest: Any = model.max_seq
    return height * width if height == width else longest, grid


def _spans(call: ForwardPass) -> TokenSpans:
    """The keys of padding are zero and not masked: they take a share of attention, as any special token."""
    image, (height, width) = _image(call)
    text = call.inputs["encoder_hidden_states_t5"].shape[1] + 2 * call.inputs[LLAMA].shape[2]
    return TokenSpans(image + text, (height, width), slice(0, height * width), slice(image, image + text))


def _llama(inputs: Inputs, rows: slice) -> Float[Tensor, "layers b n dim"]:
    """States of all layers, with the batch on their second axis."""
    return inputs[LLAMA][:, rows]


def _patches(denoiser: nn.Module, inputs: Inputs) -> str:
    return "gives its denoiser patches in place of latents" if inputs["hidden_states"].ndim == 3 else ""


HIDREAM = Family(
    models=("HiDreamImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("double_stream_blocks", "single_stream_blocks"), middle_layer),
    calling=Calling(time="timesteps", rows={LLAMA: _llama}, sign=-1, refused=_patches),
)
FAMILIES = (HIDREAM,)
