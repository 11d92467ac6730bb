"""Stable Diffusion 3 and 3.5: image and text tokens share one map, the image's first."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tokenrank_guidance.components import execution_device
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    image_only,
    patch_grid,
    processed,
)
from tokenrank_guidance.families.words import Concepts, TextTokens, Words, text_tokens


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = patch_grid(call)
    if call.layer.endswith(".attn2"):  # SD3.5's second attention of a block
        return image_only(grid)
    image = height * width
    total = image + call.inputs["encoder_hidden_states"].shape[1]
    return TokenSpans(total, grid, slice(0, image), slice(image, total))


def _encoded(pipe: Any, text: str, device: Any) -> tuple[Tensor, Tensor]:
    """The text's tokens and the pooled text."""
    encoded = pipe.encode_prompt(text, text, text, device=device, do_classifier_free_guidance=False)
    return encoded[0], encoded[2]


def _inputs(call: PicturePass) -> Inputs:
    text, pooled = _encoded(call.pipe, call.caption, call.device)
    return {
        "hidden_states": call.with_mask(),
        "timestep": call.times(),
        "encoder_hidden_states": text,
        "pooled_projections": pooled,
    }


def _without_t5(pipe: Any) -> frozenset[str]:
    return frozenset({"text_encoder_3", "tokenizer_3"})


def _tokenizers(pipe: Any) -> list[TextTokens]:
    """Two CLIPs that share their positions, then T5."""
    clip = pipe.tokenizer_max_length
    both = [text_tokens(one, clip) for one in (pipe.tokenizer, pipe.tokenizer_2)]
    t5 = [text_tokens(pipe.tokenizer_3, longest_text(pipe), clip)] if pipe.text_encoder_3 else []
    return both + t5


def _concept(pipe: Any, text: str) -> tuple[Tensor, Tensor]:
    return _encoded(pipe, text, execution_device(pipe))


SD3 = Family(
    models=("SD3Transformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks")),
    calling=Calling(),
    picture=Picture(_inputs, spare=_without_t5),
    words=Words(_tokenizers, joint=True, concepts=Concepts(_concept)),
    pipelines={"StableDiffusion3InpaintPipeline": Habits(mask="latents")},
)
FAMILIES = (SD3,)
