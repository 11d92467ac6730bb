"""CogView 3+ and 4: text and image tokens share one map, the text's first."""

from __future__ import annotations

import torch

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, patch_grid, processed
from tokenrank_guidance.families.words import Words, own_limit, t5_alone


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = patch_grid(call)
    text = call.inputs["encoder_hidden_states"].shape[1]
    return TokenSpans(text + height * width, grid, slice(text, text + height * width), slice(0, text))


def _inputs(call: PicturePass) -> Inputs:
    """CogView 3+'s: without a caption the text is zeros."""
    text, _ = call.pipe.encode_prompt(
        call.caption,
        device=call.device,
        do_classifier_free_guidance=False,
        max_sequence_length=own_limit(call.pipe),
    )
    return {
        "hidden_states": call.latents,
        "timestep": call.times(),
        "encoder_hidden_states": text if call.caption else torch.zeros_like(text),
        "original_size": call.numbers(*call.size),
        "target_size": call.numbers(*call.size),
        "crop_coords": call.numbers(0, 0),
    }


TOKENS = Tokens(_spans, processed("transformer_blocks"))
COGVIEW3 = Family(
    models=("CogView3PlusTransformer2DModel",),
    tokens=TOKENS,
    calling=Calling(),
    picture=Picture(_inputs),
    words=Words(t5_alone, own_limit, joint=True),
)
COGVIEW4 = Family(("CogView4Transformer2DModel",), TOKENS, Calling(prompt_first=True))
FAMILIES = (COGVIEW3, COGVIEW4)
