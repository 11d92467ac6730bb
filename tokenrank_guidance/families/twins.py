"""FLUX's twins: the same tokens in the same order, with a call for each half of classifier-free guidance."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.flux import LAYERS, positions, text_then_image
from tokenrank_guidance.families.packed import PACKED, SIDE, packed
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import Tokens
from tokenrank_guidance.families.words import TextTokens, Words, own_limit, t5_alone


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


def _ovis(call: PicturePass) -> Inputs:
    text, _, text_ids, _ = call.pipe.encode_prompt(
        call.caption, device=call.device, do_classifier_free_guidance=False
    )
    height, width = call.latents.shape[-2:]
    return _flux_like(call, text, text_ids, positions(height // SIDE, width // SIDE))


def _longcat(call: PicturePass) -> Inputs:
    """The image's positions begin after the longest text's."""
    text, text_ids = call.pipe.encode_prompt(call.caption)
    height, width = call.latents.shape[-2:]
    first = call.pipe.tokenizer_max_length
    places = positions(height // SIDE, width // SIDE) + torch.tensor([1, first, first])
    return _flux_like(call, text, text_ids, places) | {"guidance": None}


def _flux_like(call: PicturePass, text: Float[Tensor, "1 t dim"], text_ids: Tensor, places: Tensor) -> Inputs:
    return {
        "hidden_states": packed(call.latents),
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
        "txt_ids": text_ids,
        "img_ids": places.to(text),
    }


def _instructed(pipe: Any) -> list[TextTokens]:
    """The caption's, without the instructions before it; padding stays."""
    first = pipe.user_prompt_begin_id
    return [
        TextTokens(
            pipe.tokenizer,
            longest_text(pipe) + first,
            frame=lambda caption: pipe._get_messages(caption)[0],
            kept=lambda mask: range(first, len(mask)),
            options={"padding": "max_length", "add_special_tokens": False},
        )
    ]


def _spelled(pipe: Any) -> list[TextTokens]:
    """The caption's alone: what is put before and after it is tokenised apart, and cut off."""
    options = {"padding": "max_length", "add_special_tokens": False}
    return [TextTokens(pipe.tokenizer, pipe.tokenizer_max_length, frame=_unquoted, options=options)]


def _unquoted(caption: str) -> str:
    from diffusers.pipelines.longcat_image.pipeline_longcat_image import split_quotation

    quoted = [text for text, is_quoted in split_quotation(caption) if is_quoted]
    if quoted:
        raise ValueError(
            f"caption: LongCat-Image reads {', '.join(quoted)} letter by letter, so words are not found; "
            "leave out the quotes"
        )
    return caption


def _reads_pictures(pipe: Any) -> str:
    if "image" not in inspect.signature(pipe.encode_prompt).parameters:
        return ""
    return "its captions are read together with a picture; LongCatImagePipeline reads them alone"


TOKENS = Tokens(text_then_image, LAYERS)
CHROMA = Family(
    models=("ChromaTransformer2DModel",),
    tokens=TOKENS,
    calling=PACKED,
    picture=Picture(_inputs),
    words=Words(t5_alone, own_limit, joint=True),
    packing=SIDE,
)
OVIS = Family(
    models=("OvisImageTransformer2DModel",),
    tokens=TOKENS,
    calling=PACKED,
    picture=Picture(_ovis),
    words=Words(_instructed, joint=True),
    packing=SIDE,
)
LONGCAT = Family(
    models=("LongCatImageTransformer2DModel",),
    tokens=TOKENS,
    calling=PACKED,
    picture=Picture(_longcat, refused=_reads_pictures),
    words=Words(_spelled, joint=True),
    packing=SIDE,
)
FAMILIES = (CHROMA, OVIS, LONGCAT)
