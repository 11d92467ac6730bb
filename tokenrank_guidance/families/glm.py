"""GLM-Image: the tokens of what it is to write first, then the image's, in one map."""

from __future__ import annotations

from torch import nn

from tokenrank_guidance.families.calling import Calling, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, patch_grid, processed


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = patch_grid(call)
    text = call.inputs["encoder_hidden_states"].shape[1]
    image = height * width
    return TokenSpans(text + image, grid, slice(text, text + image), slice(0, text))


def _cached_keys(denoiser: nn.Module, inputs: Inputs) -> str:
    """Without pictures its pipeline gives a cache too, which is in no mode."""
    caches = inputs.get("kv_caches")
    if caches is None or caches[0].mode is None:
        return ""
    return (
        "keeps keys of its pictures in a cache, which its denoiser is called to fill at no timestep; "
        "it can be guided without pictures"
    )


GLM = Family(
    models=("GlmImageTransformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks")),
    calling=Calling(prompt_first=True, timestep_offset=1.0, refused=_cached_keys),
    wordless="its denoiser is given what stands in quotes alone; a language model reads the rest",
)
FAMILIES = (GLM,)
