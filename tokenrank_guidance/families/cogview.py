"""CogView 3+ and 4: text and image tokens share one map, the text's first."""

from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, patch_grid, processed


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = patch_grid(call)
    text = call.inputs["encoder_hidden_states"].shape[1]
    return TokenSpans(text + height * width, grid, slice(text, text + height * width), slice(0, text))


TOKENS = Tokens(_spans, processed("transformer_blocks"))
COGVIEW3 = Family(("CogView3PlusTransformer2DModel",), TOKENS, Calling())
COGVIEW4 = Family(("CogView4Transformer2DModel",), TOKENS, Calling(prompt_first=True))
FAMILIES = (COGVIEW3, COGVIEW4)
