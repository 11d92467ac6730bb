"""Qwen-Image: text and image tokens share one map, the text's first, the image's in squares of 2×2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tokenrank_guidance.families.calling import Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.packed import PACKED
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, processed


def _spans(call: ForwardPass) -> TokenSpans:
    """Text first; the image, then reference images (Qwen-Image-Edit), each (frames, rows, columns)."""
    shapes = call.inputs["img_shapes"][0]
    frames, height, width = shapes[0] if isinstance(shapes, list) else shapes
    text, count = call.inputs["encoder_hidden_states"].shape[1], frames * height * width
    total = text + call.inputs["hidden_states"].shape[1]
    grid = (height, width) if frames == 1 else None
    return TokenSpans(total, grid, slice(text, text + count), slice(0, text))


def _several_layers(denoiser: Any, inputs: Inputs) -> str:
    layered = denoiser.config.use_layer3d_rope
    return "makes several layers at once, which guidance does not tell apart yet" if layered else ""


QWEN = Family(
    models=("QwenImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks")),
    calling=replace(PACKED, refused=_several_layers, renormalises=True),
)
FAMILIES = (QWEN,)
