"""LTX-2: a video as one chain of packed latents; its sound and the text are apart, and neither is guided."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Habits, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.ltx import edit_from, held_tokens, several_latents
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans, middle_layer
from tokenrank_guidance.families.volume import after_first_frame, layers
from tokenrank_guidance.families.words import APART


def _grid(inputs: Inputs) -> Grid:
    return inputs["num_frames"], inputs["height"], inputs["width"]


def _spans(call: ForwardPass) -> TokenSpans:
    """The video comes first, then frames and videos that are given."""
    grid = _grid(call.inputs)
    return TokenSpans(call.inputs["hidden_states"].shape[1], grid, slice(0, math.prod(grid)))


def _stepped(denoiser: nn.Module, inputs: Inputs, tokens: Tensor, given: Tensor) -> Tensor:
    """Unpacked, and without the picture that the video starts with, where the scheduler is given that."""
    if given.ndim == tokens.ndim:
        return tokens
    return after_first_frame(tokens.unflatten(1, _grid(inputs)).movedim(-1, 1))


IN_BLOCKS = Habits(stepped=_stepped, mixes_more=True)
LTX2 = Family(
    models=("LTX2VideoTransformer3DModel",),
    tokens=Tokens(_spans, layers("attn1", "transformer_blocks"), middle_layer),
    calling=Calling(channel_axis=-1, edit=partial(edit_from, 0), held=held_tokens, refused=several_latents),
    pipelines={
        "LTX2ImageToVideoPipeline": Habits(stepped=_stepped),
        "LTX2ModularPipeline": IN_BLOCKS,
        "LTX25ModularPipeline": IN_BLOCKS,
    },
    wordless=APART,
)
FAMILIES = (LTX2,)
