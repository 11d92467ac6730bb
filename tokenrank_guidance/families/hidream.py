"""HiDream: image tokens first, then T5's, Llama's last layer's and those of a Llama layer for each block."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.calling import Calling, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs as Given
from tokenrank_guidance.families.picture import Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Grid,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_grid,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words, text_tokens

LLAMA = "encoder_hidden_states_llama3"


def _image(call: ForwardPass) -> tuple[int, Grid]:
    """How many tokens the image has, with its padding, and their grid: squares alone are not padded."""
    latents, model = call.inputs["hidden_states"], call.model
    if latents.ndim == 3:  # patches already
        height, width = (int(side) for side in call.inputs["img_sizes"][0])
        return latents.shape[1], (height, width)
    height, width = grid = patch_grid(call)
    longest: Any = model.max_seq
    return height * width if height == width else longest, grid


def _spans(call: ForwardPass) -> TokenSpans:
    """The keys of padding are zero and not masked: they take a share of attention, as any special token."""
    image, (height, width) = _image(call)
    text = call.inputs["encoder_hidden_states_t5"].shape[1] + 2 * call.inputs[LLAMA].shape[2]
    return TokenSpans(image + text, (height, width), slice(0, height * width), slice(image, image + text))


def _llama(inputs: Inputs, rows: slice) -> Float[Tensor, "layers b n dim"]:
    """States of all layers, with the batch on their second axis."""
    return inputs[LLAMA][:, rows]


def _patches(denoiser: nn.Module, inputs: Inputs) -> str:
    return "gives its denoiser patches in place of latents" if inputs["hidden_states"].ndim == 3 else ""


def _inputs(call: PicturePass) -> Given:
    text, _, llama, _, pooled, _ = call.pipe.encode_prompt(
        call.caption, device=call.device, do_classifier_free_guidance=False
    )
    return {
        "hidden_states": call.latents,
        "timesteps": call.times(),
        "encoder_hidden_states_t5": text,
        LLAMA: llama,
        "pooled_embeds": pooled,
    }


def _most(pipe: Any) -> int:
    """Its network pads a picture that is no square to so many."""
    denoiser: Any = denoiser_of(pipe)
    return denoiser.max_seq


def _words(pipe: Any) -> list[TextTokens]:
    """T5's, and Llama's twice: CLIP gives pooled vectors and no tokens."""
    t5, llama = (
        min(longest_text(pipe) or one.model_max_length, one.model_max_length)
        for one in (pipe.tokenizer_3, pipe.tokenizer_4)
    )
    twice = [text_tokens(pipe.tokenizer_4, llama, t5 + place) for place in (0, llama)]
    return [text_tokens(pipe.tokenizer_3, t5), *twice]


HIDREAM = Family(
    models=("HiDreamImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("double_stream_blocks", "single_stream_blocks"), middle_layer),
    calling=Calling(time="timesteps", rows={LLAMA: _llama}, sign=-1, refused=_patches),
    picture=Picture(_inputs, most=_most),
    words=Words(_words, joint=True, stacks=("double_stream_blocks", "single_stream_blocks")),
)
FAMILIES = (HIDREAM,)
