"""CogVideoX: the text's tokens come first in one map with the video's, and channels come after frames."""

from __future__ import annotations

import math

from tokenrank_guidance.families.calling import Calling, edit_frames
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans
from tokenrank_guidance.families.volume import layers, patch_of


def _spans(call: ForwardPass) -> TokenSpans:
    frames, _, height, width = call.inputs["hidden_states"].shape[1:]
    patch = patch_of(call.model)
    grid = (-(-frames // patch[0]), height // patch[1], width // patch[2])
    text = call.inputs["encoder_hidden_states"].shape[1]
    total = text + math.prod(grid)
    return TokenSpans(total, grid, slice(text, total), slice(0, text))


COGVIDEO = Family(
    models=("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel"),
    tokens=Tokens(_spans, layers("attn1", "transformer_blocks")),
    calling=Calling(channel_axis=2, edit=edit_frames),
)
FAMILIES = (COGVIDEO,)
