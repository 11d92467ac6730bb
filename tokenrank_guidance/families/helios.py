"""Helios: latents of long, of middle and of short ago come before the tokens that are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tokenrank_guidance.families.calling import POSITIONS, Calling, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, middle_layer
from tokenrank_guidance.families.volume import layers, patch_of, volume_grid
from tokenrank_guidance.families.words import APART

AGO = {"short": 1, "mid": 2, "long": 4}  # the longer ago, the larger its patches


def _history(call: ForwardPass) -> Iterator[int]:
    """How many tokens what was drawn before has: latents (B, C, T, H, W), padded to whole patches."""
    for name, times in AGO.items():
        latents = call.inputs.get(f"latents_history_{name}")
        if latents is not None and call.inputs.get(f"indices_latents_history_{name}") is not None:
            sides = zip(latents.shape[2:], patch_of(call.model), strict=True)
            yield math.prod(-(-size // (times * side)) for size, side in sides)


def _spans(call: ForwardPass) -> TokenSpans:
    grid, history = volume_grid(call), sum(_history(call))
    total = history + math.prod(grid)
    return TokenSpans(total, grid, slice(history, total))


INDICES = ("indices_hidden_states", *(f"indices_latents_history_{name}" for name in AGO))
HELIOS = Family(
    models=("HeliosTransformer3DModel",),
    tokens=Tokens(_spans, layers("attn1", "blocks"), middle_layer),
    calling=Calling(prompt_first=True, edit=edit_video, shared=(*POSITIONS, *INDICES)),
    wordless=APART,
)
FAMILIES = (HELIOS,)
