"""Videos that attend in turn within a frame and, at each place of it, over time.

The chain is the spatial one: each frame is a row of the batch there, and attends to itself alone. Temporal
layers, whose tokens are the times of one place, are none of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.families import unet
from tokenrank_guidance.families.calling import Calling, Habits, Inputs, edit_frames, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import Tokens, patch_spans
from tokenrank_guidance.families.volume import layers
from tokenrank_guidance.families.words import APART, Words, one_or_two

FRAMES, CHANNELS = 2, 1  # the axes of (B, C, T, H, W)
RESIDUALS = ("down_block_additional_residuals", "mid_block_additional_residual")


def _spatial(model: nn.Module) -> dict[str, bool]:
    """Layers of blocks named `attentions`, but those over time that alternate with them in one block."""
    found = unet.TOKENS.attention(model)
    return {
        name: kind
        for name, kind in found.items()
        if "attentions" in name.split(".") and "temporal_transformer_blocks" not in name
    }


def _frames(sample: str, axis: int) -> Callable[[Inputs], int]:
    return lambda inputs: inputs[sample].shape[axis]


def _of_frames(name: str) -> Callable[[Inputs, slice], Any]:
    """Rows of an argument that has one for each frame, where the sample has one for each video."""
    return lambda inputs, rows: _taken(inputs[name], rows, len(inputs["sample"]))


def _taken(value: Any, rows: slice, videos: int) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_taken(one, rows, videos) for one in value)
    return value.unflatten(0, (videos, -1))[rows].flatten(0, 1)


def _split(denoiser: nn.Module, inputs: Inputs) -> str:
    if all(type(module).__name__ != "SplitInferenceModule" for module in denoiser.modules()):
        return ""
    return (
        "gives each layer a few frames at a time, so that no call of a layer shows them all: build it anew, "
        "without enable_free_noise_split_inference"
    )


def _stepped(
    denoiser: nn.Module, inputs: Inputs, video: Float[Tensor, "b c t h w"], given: Float[Tensor, "..."]
) -> Float[Tensor, "frames c h w"]:
    """Frames are stepped as images are."""
    return video.transpose(CHANNELS, FRAMES).flatten(0, 1)


TOKENS = replace(unet.TOKENS, attention=_spatial, frames=_frames("sample", FRAMES))
AS_IMAGES = Habits(stepped=_stepped)

MOTION = Family(
    models=("UNetMotionModel",),
    tokens=TOKENS,
    calling=Calling(
        "sample",
        edit=edit_video,
        rows={name: _of_frames(name) for name in ("encoder_hidden_states", *RESIDUALS)},
        refused=_split,
    ),
    words=Words(one_or_two),
)
TEXT_TO_VIDEO = Family(
    models=("UNet3DConditionModel", "I2VGenXLUNet"),
    tokens=TOKENS,
    calling=Calling("sample", edit=edit_video),
    pipelines={
        "TextToVideoSDPipeline": AS_IMAGES,
        "VideoToVideoSDPipeline": AS_IMAGES,
        "I2VGenXLPipeline": AS_IMAGES,
    },
    words=Words(one_or_two),
)
STABLE_VIDEO = Family(
    models=("UNetSpatioTemporalConditionModel",),
    tokens=replace(TOKENS, frames=_frames("sample", 1)),
    calling=Calling("sample", edit=edit_frames, channel_axis=2),  # channels come after frames
    wordless="it draws from a picture and reads no text",
)
LATTE = Family(
    models=("LatteTransformer3DModel",),
    tokens=Tokens(
        patch_spans, layers("attn1", "transformer_blocks"), frames=_frames("hidden_states", FRAMES)
    ),
    calling=Calling(edit=edit_video),
    wordless=APART,
)
FAMILIES = (MOTION, TEXT_TO_VIDEO, STABLE_VIDEO, LATTE)
