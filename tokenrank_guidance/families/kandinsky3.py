"""Kandinsky 3: a UNet of its own, each of whose levels but the first attends to itself once."""

from __future__ import annotations

from torch import nn

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    processed,
)


def _layers(model: nn.Module) -> dict[str, bool]:
    """Its layers all count as cross-attention; the first of a level is given the image for its text."""
    kinds = processed("down_blocks", "up_blocks")(model)
    return {name: name.endswith(".attentions.0.attention") for name in kinds}


def _block(model: nn.Module, layer: str) -> str:
    """The block around the layer is given an image, and the layer its pixels in a row."""
    return layer.rpartition(".")[0]


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = call.inputs["x"].shape[-2:]
    return image_only((height, width))


KANDINSKY3 = Family(
    models=("Kandinsky3UNet",),
    tokens=Tokens(_spans, _layers, middle_layer, _block),
    calling=Calling("sample"),
)
FAMILIES = (KANDINSKY3,)
