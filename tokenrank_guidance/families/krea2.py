"""Krea 2: text and image tokens share one map, the text's first, the image's in squares of 2×2."""

from torch import nn

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.flux import image_tokens
from tokenrank_guidance.families.packed import PACKED, SIDE
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, processed

STACK = "transformer_blocks"


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that read the prompt alone are none of its maps."""
    return {name: kind for name, kind in processed(STACK)(model).items() if name.startswith(f"{STACK}.")}


def _spans(call: ForwardPass) -> TokenSpans:
    text = call.inputs["encoder_hidden_states"].shape[1]
    count, grid = image_tokens(call.inputs["position_ids"], text)
    return TokenSpans(text + count, grid, slice(text, text + count), slice(0, text))


KREA2 = Family(
    models=("Krea2Transformer2DModel",), tokens=Tokens(_spans, _layers), calling=PACKED, packing=SIDE
)
FAMILIES = (KREA2,)
