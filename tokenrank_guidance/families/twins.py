"""FLUX's twins: the same tokens in the same order, with a call for each half of classifier-free guidance."""

from __future__ import annotations

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.flux import LAYERS, positions, text_then_image
from tokenrank_guidance.families.packed import PACKED, SIDE, packed
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.tokens import Tokens
from tokenrank_guidance.families.words import Words, own_limit, t5_alone


def _inputs(call: PicturePass) -> Inputs:
    """Chroma's: the text's padding but for its first token is masked."""
    pipe, tokens, (height, width) = call.pipe, packed(call.latents), call.latents.shape[-2:]
    text, text_ids, mask, *_ = pipe.encode_prompt(
        call.caption,
        device=call.device,
        do_classifier_free_guidance=False,
        max_sequence_length=own_limit(pipe),
    )
    return {
        "hidden_states": tokens,
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
        "txt_ids": text_ids,
        "img_ids": positions(height // SIDE, width // SIDE).to(text),
        "attention_mask": pipe._prepare_attention_mask(1, tokens.shape[1], text.dtype, mask),
    }


TOKENS = Tokens(text_then_image, LAYERS)
CHROMA = Family(
    models=("ChromaTransformer2DModel",),
    tokens=TOKENS,
    calling=PACKED,
    picture=Picture(_inputs),
    words=Words(t5_alone, own_limit, joint=True),
    packing=SIDE,
)
TWINS = Family(
    models=("OvisImageTransformer2DModel", "LongCatImageTransformer2DModel"),
    tokens=TOKENS,
    calling=PACKED,
    packing=SIDE,
)
FAMILIES = (CHROMA, TWINS)
