"""Qwen-Image 2.1: text and reference images, each of which sees what came before it, then the image's tokens.

A token is one latent pixel. The image's tokens see all of those, which are keys beside their own, and which
pipelines keep from step to step.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.families.calling import Holding, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.packed import PACKED, edit_pixels, packed
from tokenrank_guidance.families.picture import Inputs as Given
from tokenrank_guidance.families.picture import Picture, PicturePass, opaque_frame, standardised
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, image_only, processed
from tokenrank_guidance.families.words import KEYS_ALONE

SLOT = 4  # tokens of an image for each that stands for it in the text


def _tokens(inputs: Inputs) -> int:
    """Of the image that is drawn: the last, which its references come before."""
    return math.prod(inputs["img_shapes"][0][-1])


def _spans(call: ForwardPass) -> TokenSpans:
    frames, height, width = call.inputs["img_shapes"][0][-1]
    references = call.inputs["hidden_states"].shape[1] - _tokens(call.inputs)
    before = call.inputs["encoder_hidden_states"].shape[1] + references - references // SLOT
    grid = (height, width) if frames == 1 else None
    image = frames * height * width
    return replace(image_only((image, 1)), grid=grid, prompt_keys=before)


def _read(held: Float[Tensor, "b n c"], inputs: Inputs) -> Float[Tensor, "b image c"]:
    """Without reference images, and in outputs without the text."""
    return held[:, held.shape[1] - _tokens(inputs) :]


def _write(
    held: Float[Tensor, "b n c"], images: Float[Tensor, "b image c"], inputs: Inputs
) -> Float[Tensor, "b n c"]:
    return torch.cat([held[:, : held.shape[1] - images.shape[1]], images], 1)


def _inputs(call: PicturePass) -> Given:
    """Of the text's tokens none stands for a picture; at the end come slots for the image's own."""
    height, width = call.latents.shape[-2:]
    text, mask, slots = call.pipe.encode_prompt(call.caption, device=call.device)
    own = slots.new_ones(1, height * width // SLOT)
    return {
        "hidden_states": packed(call.latents, 1),
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
        "encoder_hidden_states_mask": mask,
        "img_shapes": [[(1, height, width)]],
        "img_mask": torch.cat([slots, own], 1),
    }


QWEN21 = Family(
    models=("QwenImage21Transformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks")),
    calling=replace(PACKED, holding=Holding(_read, _write), edit=edit_pixels),
    picture=Picture(_inputs, opaque_frame, standardised, even=math.isqrt(SLOT)),
    wordless=KEYS_ALONE,
)
FAMILIES = (QWEN21,)
