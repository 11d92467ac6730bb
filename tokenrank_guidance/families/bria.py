"""Bria 3.2 and FIBO: FLUX's tokens, a batch of both halves; FIBO 2, whose prompt is a few learned tokens."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.flux import LAYERS, positions, text_then_image
from tokenrank_guidance.families.packed import SIDE, edit_packed, edit_pixels, packed
from tokenrank_guidance.families.picture import (
    Inputs,
    Picture,
    PicturePass,
    longest_text,
    one_frame,
    standardised,
)
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_grid,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words, own_limit, t5_alone, text_tokens

STACKS = ("noise_refiner.", "layers.")


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image's tokens; the others read the prompt, or attend to it alone."""
    names = processed("noise_refiner", "layers")(model)
    return {name: not name.endswith(".cross_attention") for name in names if name.startswith(STACKS)}


def _auto(names: Sequence[str]) -> str:
    return middle_layer([name for name in names if name.startswith("layers.")] or names)


def _spans(call: ForwardPass) -> TokenSpans:
    """The prompt's learned tokens, the image and its references; these two first if prompts differ."""
    height, width = grid = patch_grid(call)
    model: Any = call.model
    image, config = height * width, model.config
    context = sum(_count(latents, config.patch_size) for latents in call.inputs.get("context_latents") or [])
    if call.layer.startswith("noise_refiner."):
        return TokenSpans(image + context, grid, slice(0, image))
    gists = _gists(call, config)
    gist, first = max(gists), 0 if min(gists) < max(gists) else max(gists)
    text = slice(0, gist) if first else slice(image + context, image + context + gist)
    return TokenSpans(gist + image + context, grid, slice(first, first + image), text)


def _count(latents: Any, patch: int) -> int:
    return (latents.shape[-2] // patch) * (latents.shape[-1] // patch)


def _gists(call: ForwardPass, config: Any) -> list[int]:
    """How many learned tokens each prompt gets, by the network's own rule."""
    embeds, mask = call.inputs["encoder_hidden_states"], call.inputs.get("encoder_attention_mask")
    lengths = (
        [embeds.shape[2]] * len(embeds) if mask is None else mask.sum(1).tolist()
    )  # read by the model too
    rule: Any = inspect.getmodule(type(call.model))
    return rule.compute_gist_count(
        lengths,
        min_gist=config.min_num_gist_tokens,
        max_gist=config.max_num_gist_tokens,
        gist_step=config.gist_step,
        min_text_len=config.gist_min_text_len,
        max_text_len=config.gist_max_text_len,
    )


def _inputs(call: PicturePass) -> Inputs:
    """Bria's: without a caption the text is zeros."""
    pipe, (height, width) = call.pipe, call.latents.shape[-2:]
    text, _, text_ids = pipe.encode_prompt(
        call.caption,
        device=call.device,
        do_classifier_free_guidance=False,
        max_sequence_length=own_limit(pipe),
    )
    return {
        "hidden_states": packed(call.latents),
        "timestep": call.times(),
        "encoder_hidden_states": text if call.caption else torch.zeros_like(text),
        "txt_ids": text_ids[0],
        "img_ids": positions(height // SIDE, width // SIDE).to(text),
    }


def _fibo(call: PicturePass) -> Inputs:
    """Each block has the text of a layer of the text encoder: its last ones, or its last once more."""
    pipe, (height, width) = call.pipe, call.latents.shape[-2:]
    text, _, text_ids, _, _, layers, _ = pipe.encode_prompt(
        call.caption, device=call.device, guidance_scale=1.0
    )
    network: Any = denoiser_of(pipe)
    blocks = len(network.transformer_blocks) + len(network.single_transformer_blocks)
    return {
        "hidden_states": packed(call.latents, 1),
        "timestep": call.times(),
        "encoder_hidden_states": text,
        "text_encoder_layers": (layers + layers[-1:] * (blocks - len(layers)))[-blocks:],
        "txt_ids": text_ids[0],
        "img_ids": positions(height, width).to(text),
    }


def _smol(pipe: Any) -> list[TextTokens]:
    """A single caption is not padded."""
    return [text_tokens(pipe.tokenizer, longest_text(pipe), options={"padding": "longest"})]


BRIA = Family(
    models=("BriaTransformer2DModel",),
    tokens=Tokens(text_then_image, LAYERS),
    calling=Calling(channel_axis=-1, edit=edit_packed),
    picture=Picture(_inputs),
    words=Words(t5_alone, own_limit, joint=True),
    packing=SIDE,
)
FIBO = Family(
    models=("BriaFiboTransformer2DModel",),
    tokens=Tokens(text_then_image, LAYERS),
    calling=Calling(channel_axis=-1, edit=edit_pixels),
    picture=Picture(_fibo, one_frame, standardised),
    words=Words(_smol, joint=True),
    pipelines=dict.fromkeys(
        ("BriaFiboPipeline", "BriaFiboEditPipeline"), Habits(edits={"do_patching": edit_packed})
    ),
)
FIBO2 = Family(
    models=("BriaFibo2Transformer2DModel",),
    tokens=Tokens(_spans, _layers, _auto),
    calling=Calling(prompt_first=True, timestep_scale=1000.0),
    wordless="a few learned tokens stand for the whole prompt",
)
FAMILIES = (BRIA, FIBO, FIBO2)
