"""CogView 3+ and 4: text and image tokens share one map, the text's first."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, patch_grid, processed
from tokenrank_guidance.families.words import TextTokens, Words, own_limit, t5_alone, text_tokens


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = patch_grid(call)
    text = call.inputs["encoder_hidden_states"].shape[1]
    return TokenSpans(text + height * width, grid, slice(text, text + height * width), slice(0, text))


def _inputs(call: PicturePass) -> Inputs:
    """Without a caption CogView 3+'s text is zeros."""
    text, _ = call.pipe.encode_prompt(
        call.caption,
        device=call.device,
        do_classifier_free_guidance=False,
        max_sequence_length=own_limit(call.pipe),
    )
    return _sized(call, text if call.caption else torch.zeros_like(text))


def _inputs_4(call: PicturePass) -> Inputs:
    text, _ = call.pipe.encode_prompt(call.caption, device=call.device, do_classifier_free_guidance=False)
    return _sized(call, text)


def _sized(call: PicturePass, text: Float[Tensor, "1 n dim"]) -> Inputs:
    return {
        "hidden_states": call.latents,
        "timestep": call.times(),
        "encoder_hidden_states": text,
        "original_size": call.numbers(*call.size),
        "target_size": call.numbers(*call.size),
        "crop_coords": call.numbers(0, 0),
    }


def _glm(pipe: Any) -> list[TextTokens]:
    """Padded before the text to whole sixteens."""
    options = {"padding": "longest", "pad_to_multiple_of": 16, "padding_side": "left"}
    return [text_tokens(pipe.tokenizer, longest_text(pipe), options=options)]


TOKENS = Tokens(_spans, processed("transformer_blocks"))
COGVIEW3 = Family(
    models=("CogView3PlusTransformer2DModel",),
    tokens=TOKENS,
    calling=Calling(),
    picture=Picture(_inputs),
    words=Words(t5_alone, own_limit, joint=True),
)
COGVIEW4 = Family(
    models=("CogView4Transformer2DModel",),
    tokens=TOKENS,
    calling=Calling(prompt_first=True),
    picture=Picture(_inputs_4),
    words=Words(_glm, joint=True),
)
FAMILIES = (COGVIEW3, COGVIEW4)
