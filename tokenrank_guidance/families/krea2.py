"""Krea 2: text and image tokens share one map, the text's first, the image's in squares of 2×2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.flux import image_tokens
from tokenrank_guidance.families.packed import PACKED, SIDE, packed
from tokenrank_guidance.families.picture import (
    Inputs,
    Picture,
    PicturePass,
    longest_text,
    one_frame,
    standardised,
)
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, processed
from tokenrank_guidance.families.words import TextTokens, Words

STACK = "transformer_blocks"


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that read the prompt alone are none of its maps."""
    return {name: kind for name, kind in processed(STACK)(model).items() if name.startswith(f"{STACK}.")}


def _spans(call: ForwardPass) -> TokenSpans:
    text = call.inputs["encoder_hidden_states"].shape[1]
    count, grid = image_tokens(call.inputs["position_ids"], text)
    return TokenSpans(text + count, grid, slice(text, text + count), slice(0, text))


def _inputs(call: PicturePass) -> Inputs:
    pipe, (height, width) = call.pipe, call.latents.shape[-2:]
    text, mask = pipe.encode_prompt(call.caption, device=call.device)
    return {
        "hidden_states": packed(call.latents),
        "encoder_hidden_states": text,
        "timestep": call.times(1 / 1000),
        "position_ids": pipe.prepare_position_ids(text.shape[1], height // SIDE, width // SIDE, call.device),
        "encoder_attention_mask": mask,
    }


def _words(pipe: Any) -> list[TextTokens]:
    """The caption's, without the instructions before it; what its frame ends in follows the padding."""
    first, after = pipe.prompt_template_encode_start_idx, pipe.prompt_template_encode_num_suffix_tokens

    def frame(caption: str) -> str:
        return pipe.prompt_template_encode_prefix + caption

    def kept(mask: Sequence[int]) -> Sequence[int]:
        return range(first, len(mask))

    return [TextTokens(pipe.tokenizer, longest_text(pipe) + first - after, frame=frame, kept=kept)]


KREA2 = Family(
    models=("Krea2Transformer2DModel",),
    tokens=Tokens(_spans, _layers),
    calling=PACKED,
    picture=Picture(_inputs, one_frame, standardised),
    words=Words(_words, joint=True),
    packing=SIDE,
)
FAMILIES = (KREA2,)
