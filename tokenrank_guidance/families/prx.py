"""PRX: image tokens attend to keys of the prompt beside their own."""

from dataclasses import replace

from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_spans,
    processed,
)
from tokenrank_guidance.families.words import KEYS_ALONE


def _spans(call: ForwardPass) -> TokenSpans:
    return replace(patch_spans(call), prompt_keys=call.inputs["encoder_hidden_states"].shape[1])


PRX = Family(
    models=("PRXTransformer2DModel",),
    tokens=Tokens(_spans, processed("blocks"), middle_layer),
    calling=Calling(timestep_scale=1000.0),
    wordless=KEYS_ALONE,
    pipelines={"PRXPixelPipeline": Habits(predicts="sample")},
)
FAMILIES = (PRX,)
