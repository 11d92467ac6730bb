"""FLUX.3: the image attends to itself first, then in one map with the text before and references after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxtyping import Shaped
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from tokenrank_guidance.families.calling import Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.packed import PACKED, SIDE
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Grid,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    processed,
)

IMAGE, JOINT = "mode_blocks.image.", "single_transformer_blocks."

# Reading positions waits for the GPU, and blocks give the same tensor at every step.
_grids: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _grid(ids: Shaped[Tensor, "n 4"]) -> Grid | None:
    """(rows, columns) of positions (time, row, column, layer), which may be scaled."""
    if ids not in _grids:
        height, width = (len(ids[:, axis].unique()) for axis in (1, 2))
        _grids[ids] = (height, width) if height * width == len(ids) else None
    return _grids[ids]


def _spans(call: ForwardPass) -> TokenSpans:
    image, grid = call.inputs["hidden_states"].shape[1], _grid(call.inputs["img_ids"])
    if call.layer.startswith(IMAGE):
        return replace(image_only((image, 1)), grid=grid)
    text = call.inputs["encoder_hidden_states"].shape[1]
    references = call.inputs.get("image_cond_hidden_states")
    total = text + image + (0 if references is None else references.shape[1])
    return TokenSpans(total, grid, slice(text, text + image), slice(0, text))


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those of the text or the references alone are none of its maps."""
    kinds = processed("mode_blocks", "single_transformer_blocks")(model)
    return {name: kind for name, kind in kinds.items() if name.startswith((IMAGE, JOINT))}


IN_BLOCKS = (
    "modular blocks alone draw with it, which no call here can make: one of them may write the prompt anew"
)


def _flow_map(denoiser: Any, inputs: Inputs) -> str:
    if not denoiser.config.flow_map:
        return ""
    return "predicts where its next step leads, by which the image that all steps lead to is not known"


FLUX3 = Family(
    models=("Flux3Transformer2DModel",),
    tokens=Tokens(_spans, _layers, middle_layer),
    calling=replace(PACKED, refused=_flow_map),
    wordless=IN_BLOCKS,
    packing=SIDE,
)
FAMILIES = (FLUX3,)
