"""HunyuanVideo: the video's tokens come first in one map with the text's."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Habits, Inputs, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans
from tokenrank_guidance.families.volume import after_first_frame, first_frame, layers, volume_grid


def _spans(call: ForwardPass) -> TokenSpans:
    """The text's padding is masked, and counted."""
    grid = volume_grid(call)
    video = math.prod(grid)
    total = video + call.inputs["encoder_hidden_states"].shape[1]
    return TokenSpans(total, grid, slice(0, video), slice(video, total))


def _starts_with_picture(denoiser: Any) -> bool:
    """Whether the first frame's latents are the picture's own, without noise."""
    return denoiser.config.image_condition_type == "token_replace"


def _held(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "1 1 t 1 1"] | None:
    return first_frame(inputs) if _starts_with_picture(denoiser) else None


def _stepped(denoiser: nn.Module, inputs: Inputs, video: Tensor) -> Tensor:
    return after_first_frame(video) if _starts_with_picture(denoiser) else video


LAYERS = layers("attn", "transformer_blocks", "single_transformer_blocks")
HUNYUAN_VIDEO = Family(
    models=("HunyuanVideoTransformer3DModel",),
    tokens=Tokens(_spans, LAYERS),
    calling=Calling(prompt_first=True, edit=edit_video, held=_held),
    pipelines={"HunyuanVideoImageToVideoPipeline": Habits(stepped=_stepped)},
)
FAMILIES = (HUNYUAN_VIDEO,)
