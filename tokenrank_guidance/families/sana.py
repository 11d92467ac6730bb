"""Sana, whose attention over image tokens is linear, and Sana-Sprint, sampled in a few steps."""

from __future__ import annotations

from dataclasses import replace

from tokenrank_guidance.components import config_of
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, patch_spans, processed
from tokenrank_guidance.families.words import Words, one_or_two

ADVICE = (
    "Give each self-attention layer its own processor back, with "
    "layer.set_processor(SanaLinearAttnProcessor2_0()) of diffusers.models.attention_processor"
)


def _spans(call: ForwardPass) -> TokenSpans:
    return replace(patch_spans(call), linear=True)


def _picture(call: PicturePass) -> Inputs:
    text, mask, *_ = call.pipe.encode_prompt(call.caption, False, device=call.device)
    return {
        "hidden_states": call.latents,
        "encoder_hidden_states": text.to(call.latents.dtype),
        "encoder_attention_mask": mask,
        "timestep": call.times(config_of(call.pipe)["timestep_scale"]),
    }


SPRINT = Habits(angles=True)
SANA = Family(
    models=("SanaTransformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks"), advice=ADVICE),
    calling=Calling(timestep_entry="timestep_scale"),
    picture=Picture(_picture),
    words=Words(one_or_two, walks=False),
    pipelines={"SanaSprintPipeline": SPRINT, "SanaSprintImg2ImgPipeline": SPRINT},
)
FAMILIES = (SANA,)
