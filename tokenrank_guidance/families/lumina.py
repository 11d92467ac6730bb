"""Lumina-Next, whose text is apart, and Lumina 2, where each prompt comes before its image, unpadded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    patch_grid,
    patch_spans,
    processed,
)


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that refine the text alone are none of its maps."""
    kinds = processed("noise_refiner", "layers")(model)
    return {name: kind for name, kind in kinds.items() if not name.startswith("context_refiner.")}


def _auto(names: Sequence[str]) -> str:
    return middle_layer([name for name in names if name.startswith("layers.")] or names)


def _spans(call: ForwardPass) -> TokenSpans:
    """Each prompt without its padding, then its image; rows with shorter prompts are padded at the end."""
    height, width = grid = patch_grid(call)
    image = height * width
    if call.layer.startswith("noise_refiner."):
        return image_only(grid)
    prompts = call.inputs["encoder_attention_mask"].sum(1).tolist()  # read by the model too
    longest = max(prompts)
    if min(prompts) == longest:
        return TokenSpans(longest + image, grid, slice(longest, longest + image), slice(0, longest))
    return TokenSpans(longest + image, grid, slice(0, image), starts=tuple(prompts))


# Time runs from 0, noise, to 1, and the output points to the image; the prompt's half is first.
CALLING = Calling(unconditional=1, timestep_scale=-1000.0, timestep_offset=1000.0, sign=-1)
LUMINA_NEXT = Family(("LuminaNextDiT2DModel",), Tokens(patch_spans, processed()), CALLING)
LUMINA2 = Family(
    models=("Lumina2Transformer2DModel",),
    tokens=Tokens(_spans, _layers, _auto),
    calling=replace(CALLING, prompt_first=True, renormalises=True),
)
FAMILIES = (LUMINA_NEXT, LUMINA2)
