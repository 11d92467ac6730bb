"""AuraFlow: registers, text and image tokens share one map, in this order."""

from __future__ import annotations

from typing import Any

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_grid,
    processed,
)
from tokenrank_guidance.families.words import Words, own_limit, t5_alone

STACKS = ("joint_transformer_blocks", "single_transformer_blocks")


def _spans(call: ForwardPass) -> TokenSpans:
    model: Any = call.model
    height, width = grid = patch_grid(call)
    registers = model.register_tokens.shape[1]
    image = registers + call.inputs["encoder_hidden_states"].shape[1]
    total = image + height * width
    return TokenSpans(
        total, grid, slice(image, total), slice(registers, image), registers=slice(0, registers)
    )


def _inputs(call: PicturePass) -> Inputs:
    text, *_ = call.pipe.encode_prompt(
        call.caption,
        device=call.device,
        do_classifier_free_guidance=False,
        max_sequence_length=own_limit(call.pipe),
    )
    return {
        "hidden_states": call.latents,
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
    }


AURAFLOW = Family(
    models=("AuraFlowTransformer2DModel",),
    tokens=Tokens(_spans, processed(*STACKS), middle_layer),
    calling=Calling(timestep_scale=1000.0),
    picture=Picture(_inputs),
    words=Words(t5_alone, own_limit, joint=True, stacks=STACKS),
)
FAMILIES = (AURAFLOW,)
