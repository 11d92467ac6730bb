"""Qwen-Image: text and image tokens share one map, the text's first, the image's in squares of 2×2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tokenrank_guidance.components import config_of
from tokenrank_guidance.families.calling import Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.packed import PACKED, SIDE, packed
from tokenrank_guidance.families.picture import Inputs as Given
from tokenrank_guidance.families.picture import Picture, PicturePass, longest_text, one_frame, standardised
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, processed
from tokenrank_guidance.families.words import TextTokens, Words, without_padding


def _spans(call: ForwardPass) -> TokenSpans:
    """Text first; the image, then reference images (Qwen-Image-Edit), each (frames, rows, columns)."""
    shapes = call.inputs["img_shapes"][0]
    frames, height, width = shapes[0] if isinstance(shapes, list) else shapes
    text, count = call.inputs["encoder_hidden_states"].shape[1], frames * height * width
    total = text + call.inputs["hidden_states"].shape[1]
    grid = (height, width) if frames == 1 else None
    return TokenSpans(total, grid, slice(text, text + count), slice(0, text))


def _several_layers(denoiser: Any, inputs: Inputs) -> str:
    layered = denoiser.config.use_layer3d_rope
    return "makes several layers at once, which guidance does not tell apart yet" if layered else ""


def _inputs(call: PicturePass) -> Given:
    pipe, (height, width) = call.pipe, call.latents.shape[-2:]
    text, mask = pipe.encode_prompt(call.caption, device=call.device)
    return {
        "hidden_states": packed(call.latents),
        "timestep": call.times(1 / 1000),
        "guidance": call.numbers(1.0)[0] if config_of(pipe)["guidance_embeds"] else None,
        "encoder_hidden_states": text,
        "encoder_hidden_states_mask": mask,
        "img_shapes": [[(1, height // SIDE, width // SIDE)]],
    }


def _needs_pictures(pipe: Any) -> str:
    """Its layers and its references."""
    if config_of(pipe).get("use_layer3d_rope"):
        return "its denoiser makes several layers at once, and a picture is one"
    if getattr(pipe, "processor", None) is None:
        return ""
    return "its captions are read together with reference pictures; QwenImagePipeline reads them alone"


def _words(pipe: Any) -> list[TextTokens]:
    """The caption's, without the instructions before it, and without padding."""
    first, longest = pipe.prompt_template_encode_start_idx, longest_text(pipe)

    def kept(mask: Sequence[int]) -> Sequence[int]:
        return without_padding(mask)[first:][:longest]

    limit = pipe.tokenizer_max_length + first
    return [TextTokens(pipe.tokenizer, limit, frame=pipe.prompt_template_encode.format, kept=kept)]


QWEN = Family(
    models=("QwenImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks")),
    calling=replace(PACKED, refused=_several_layers, renormalises=True),
    picture=Picture(_inputs, one_frame, standardised, refused=_needs_pictures),
    words=Words(_words, joint=True),
    packing=SIDE,
)
FAMILIES = (QWEN,)
