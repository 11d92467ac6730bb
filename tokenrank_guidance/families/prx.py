"""PRX: image tokens attend to keys of the prompt beside their own."""

from __future__ import annotations

from dataclasses import replace

from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
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


def _inputs(call: PicturePass) -> Inputs:
    text, mask, *_ = call.pipe.encode_prompt(call.caption, call.device, do_classifier_free_guidance=False)
    return {
        "hidden_states": call.latents,
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
        "attention_mask": mask,
    }


PRX = Family(
    models=("PRXTransformer2DModel",),
    tokens=Tokens(_spans, processed("blocks"), middle_layer),
    calling=Calling(timestep_scale=1000.0),
    picture=Picture(_inputs),
    wordless=KEYS_ALONE,
    pipelines={"PRXPixelPipeline": Habits(predicts="sample")},
)
FAMILIES = (PRX,)
