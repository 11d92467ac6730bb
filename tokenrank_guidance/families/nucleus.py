"""Nucleus-Image: image tokens alone, which attend to the prompt's keys too, in squares of 2×2."""

from __future__ import annotations

from dataclasses import replace

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.packed import PACKED, SIDE, packed
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass, one_frame, standardised
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, image_only, processed
from tokenrank_guidance.families.words import KEYS_ALONE


def _spans(call: ForwardPass) -> TokenSpans:
    shapes = call.inputs["img_shapes"]
    _, height, width = shapes[0] if isinstance(shapes, list) else shapes
    return replace(image_only((height, width)), later_keys=call.inputs["encoder_hidden_states"].shape[1])


def _inputs(call: PicturePass) -> Inputs:
    height, width = call.latents.shape[-2:]
    text, mask = call.pipe.encode_prompt(
        call.caption, device=call.device, max_sequence_length=call.pipe.default_max_sequence_length
    )
    return {
        "hidden_states": packed(call.latents),
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
        "encoder_hidden_states_mask": mask,
        "img_shapes": [(1, height // SIDE, width // SIDE)],
    }


NUCLEUS = Family(
    models=("NucleusMoEImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks")),
    calling=replace(PACKED, sign=-1, renormalises=True),
    picture=Picture(_inputs, one_frame, standardised),
    wordless=KEYS_ALONE,
    packing=SIDE,
)
FAMILIES = (NUCLEUS,)
