"""Kandinsky 5: frames of latents with their channels last, whose text is apart."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Edit, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.refused import VIDEO
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans, image_only, processed


def _layers(model: nn.Module) -> dict[str, bool]:
    """Kandinsky 5 marks cross-attention by the name alone; its other blocks see the text."""
    kinds = processed()(model)
    return {name: name.endswith(".self_attention") for name in kinds if name.startswith("visual_")}


def _spans(call: ForwardPass) -> TokenSpans:
    frames, height, width = call.inputs["hidden_states"].shape[1:4]
    config: Any = call.model.config
    grid = height // config.patch_size[1], width // config.patch_size[2]
    if frames == 1:
        return image_only(grid)
    total = frames // config.patch_size[0] * grid[0] * grid[1]
    return TokenSpans(total, None, slice(0, total))


def _edit_frame(frame: Float[Tensor, "b 1 h w c"], grid: Grid, edit: Edit) -> Float[Tensor, "b 1 h w c"]:
    return edit(frame.squeeze(1).movedim(-1, 1)).movedim(1, -1).unsqueeze(1)


def _several_frames(denoiser: nn.Module, inputs: Inputs) -> str:
    return f"makes several frames at once: {VIDEO}" if inputs["hidden_states"].shape[1] > 1 else ""


KANDINSKY5 = Family(
    models=("Kandinsky5Transformer3DModel",),
    tokens=Tokens(_spans, _layers),
    calling=Calling(prompt_first=True, channel_axis=-1, edit=_edit_frame, refused=_several_frames),
)
FAMILIES = (KANDINSKY5,)
