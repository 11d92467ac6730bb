"""AuraFlow: registers, text and image tokens share one map, in this order."""

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


def _spans(call: ForwardPass) -> TokenSpans:
    model: Any = call.model
    height, width = grid = patch_grid(call)
    registers = model.register_tokens.shape[1]
    image = registers + call.inputs["encoder_hidden_states"].shape[1]
    total = image + height * width
    return TokenSpans(
        total, grid, slice(image, total), slice(registers, image), registers=slice(0, registers)
    )


AURAFLOW = Family(
    models=("AuraFlowTransformer2DModel",),
    tokens=Tokens(_spans, processed("joint_transformer_blocks", "single_transformer_blocks"), middle_layer),
    calling=Calling(timestep_scale=1000.0),
)
FAMILIES = (AURAFLOW,)
