"""ERNIE-Image: image tokens first, then the prompt's, in one map; each is one latent pixel."""

from __future__ import annotations

from typing import Any

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_grid,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words, text_tokens


def _spans(call: ForwardPass) -> TokenSpans:
    """Shorter prompts of a batch are padded to the longest, which its mask tells."""
    height, width = grid = patch_grid(call)
    image, text = height * width, call.inputs["text_bth"].shape[1]
    return TokenSpans(image + text, grid, slice(0, image), slice(image, image + text))


def _words(pipe: Any) -> list[TextTokens]:
    """Without padding but that of a batch, which comes behind."""
    return [text_tokens(pipe.tokenizer, None, options={})]


ERNIE = Family(
    models=("ErnieImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("layers"), middle_layer),
    calling=Calling(),
    words=Words(_words, joint=True, stacks=("layers",)),
)
FAMILIES = (ERNIE,)
