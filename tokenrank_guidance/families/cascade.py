"""Stable Cascade and Würstchen: image tokens attend to keys of the prompt after their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    processed,
)
from tokenrank_guidance.families.words import KEYS_ALONE


def _block(model: nn.Module, layer: str) -> str:
    """The block around the layer is given an image and the prompt, and the layer the keys of both."""
    return layer.rpartition(".")[0]


def _layers(model: nn.Module) -> dict[str, bool]:
    def attends_to_itself(layer: str) -> bool:
        block: Any = model.get_submodule(_block(model, layer))
        return block.self_attn

    return {layer: attends_to_itself(layer) for layer in processed("down_blocks", "up_blocks")(model)}


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = call.inputs["x"].shape[-2:]
    return replace(image_only((height, width)), later_keys=call.inputs["kv"].shape[1])


TOKENS = Tokens(_spans, _layers, middle_layer, _block)
RATIOS = Habits(schedulers=("DDPMWuerstchenScheduler",))
CASCADE = Family(
    models=("StableCascadeUNet",),
    tokens=TOKENS,
    calling=Calling("sample", "timestep_ratio", unconditional=1),
    wordless=KEYS_ALONE,
    pipelines={
        "StableCascadePriorPipeline": RATIOS,
        "StableCascadeDecoderPipeline": RATIOS,
        "StableCascadeCombinedPipeline": RATIOS,
    },
)
WUERSTCHEN = Family(
    models=("WuerstchenPrior", "WuerstchenDiffNeXt"),
    tokens=TOKENS,
    calling=Calling("x", "r", unconditional=1),
    wordless=KEYS_ALONE,
)
FAMILIES = (CASCADE, WUERSTCHEN)
