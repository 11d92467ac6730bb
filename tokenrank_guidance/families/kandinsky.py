"""Kandinsky 5 and 6: frames of latents with their channels last, whose text, and sound, are apart."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Edit, Habits, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Grid,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    processed,
)
from tokenrank_guidance.families.words import APART

PICTURE = 1  # of Kandinsky 6's types of frames
SPARSE = "attends to neighbourhoods alone (sparse_params), so that no call holds the whole map"


def _layers(model: nn.Module) -> dict[str, bool]:
    """Kandinsky 5 marks cross-attention by the name alone; its other blocks see the text."""
    kinds = processed()(model)
    return {name: name.endswith(".self_attention") for name in kinds if name.startswith("visual_")}


def _spans(call: ForwardPass) -> TokenSpans:
    """An image is one frame."""
    sizes = call.inputs["hidden_states"].shape[1:4]
    config: Any = call.model.config
    grid = tuple(size // side for size, side in zip(sizes, config.patch_size, strict=True))
    return image_only(grid[1:] if sizes[0] == 1 else grid)


def _edit(frames: Float[Tensor, "b t h w c"], grid: Grid, edit: Edit) -> Float[Tensor, "b t h w c"]:
    images = edit(frames.flatten(0, 1).movedim(-1, 1))
    return images.movedim(1, -1).unflatten(0, frames.shape[:2])


def _held(denoiser: Any, inputs: Inputs) -> Bool[Tensor, "b t h w 1"] | None:
    """The last channel is 1 where a frame of a video is given, in models that take frames."""
    frames = inputs["hidden_states"]
    return frames[..., -1:] > 0.5 if denoiser.config.visual_cond and frames.shape[1] > 1 else None


def _sparse(denoiser: nn.Module, inputs: Inputs) -> str:
    return "" if inputs.get("sparse_params") is None else SPARSE


def _after_first_frame(denoiser: nn.Module, inputs: Inputs, frames: Tensor, given: Tensor) -> Tensor:
    return frames[:, 1:]


KANDINSKY5 = Family(
    models=("Kandinsky5Transformer3DModel",),
    tokens=Tokens(_spans, _layers),
    calling=Calling(prompt_first=True, channel_axis=-1, edit=_edit, refused=_sparse, held=_held),
    pipelines={"Kandinsky5I2VPipeline": Habits(stepped=_after_first_frame)},
    wordless=APART,
)


def _video_layers(model: nn.Module) -> dict[str, bool]:
    """Each block of Kandinsky 6 has a part for the video and one for its sound, which meet by attention."""
    kinds = processed()(model)
    return {
        name: name.endswith(".video_dec_block.self_attention") for name in kinds if name.startswith("visual_")
    }


def _held_picture(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "b t 1 1 1"] | None:
    """A picture that the video starts with is a frame more, after the last, of a type of its own."""
    types = inputs.get("visual_token_type_ids")
    return None if types is None else (types == PICTURE)[..., None, None, None]


KANDINSKY6 = Family(
    models=("Kandinsky6Transformer3DModel",),
    tokens=Tokens(_spans, _video_layers, middle_layer),
    calling=Calling(prompt_first=True, channel_axis=-1, edit=_edit, held=_held_picture),
    wordless=APART,
)
FAMILIES = (KANDINSKY5, KANDINSKY6)
