"""Kandinsky 3: a UNet of its own, each of whose levels but the first attends to itself once."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Latents, Picture, PicturePass
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words, text_tokens

LONGEST, COARSEST = 128, 8  # tokens of a caption; latent pixels a side of a token of its last level


def _layers(model: nn.Module) -> dict[str, bool]:
    """Its layers all count as cross-attention; the first of a level is given the image for its text.

    The one that pools the text for the time's embedding sees no image.
    """
    kinds = processed("down_blocks", "up_blocks")(model)
    levels = (name for name in kinds if ".attentions." in name)
    return {name: name.endswith(".attentions.0.attention") for name in levels}


def _block(model: nn.Module, layer: str) -> str:
    """The block around the layer is given an image, and the layer its pixels in a row."""
    return layer.rpartition(".")[0]


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = call.inputs["x"].shape[-2:]
    return image_only((height, width))


def _inputs(call: PicturePass) -> Inputs:
    """Without a caption the text is zeros, all of them masked."""
    text, _, mask, _ = call.pipe.encode_prompt(
        call.caption, do_classifier_free_guidance=False, device=call.device, _cut_context=True
    )
    if not call.caption:
        text, mask = torch.zeros_like(text), torch.zeros_like(mask)
    return {
        "sample": call.latents,
        "timestep": call.times(),
        "encoder_hidden_states": text,
        "encoder_attention_mask": mask,
    }


def _unscaled(vae: Any, encoded: Latents) -> Latents:
    """As they are encoded."""
    return encoded


def _t5(pipe: Any) -> list[TextTokens]:
    return [text_tokens(pipe.tokenizer, LONGEST)]


KANDINSKY3 = Family(
    models=("Kandinsky3UNet",),
    tokens=Tokens(_spans, _layers, middle_layer, _block),
    calling=Calling("sample"),
    picture=Picture(_inputs, latents=_unscaled, patch=COARSEST),
    words=Words(_t5, walks=False),
)
FAMILIES = (KANDINSKY3,)
