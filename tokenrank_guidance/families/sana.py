"""Sana, whose attention over image tokens is linear, and Sana-Sprint, sampled in a few steps."""

from __future__ import annotations

from dataclasses import replace

from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, patch_spans, processed

ADVICE = (
    "Give each self-attention layer its own processor back, with "
    "layer.set_processor(SanaLinearAttnProcessor2_0()) of diffusers.models.attention_processor"
)


def _spans(call: ForwardPass) -> TokenSpans:
    return replace(patch_spans(call), linear=True)


SPRINT = Habits(angles=True)
SANA = Family(
    models=("SanaTransformer2DModel",),
    tokens=Tokens(_spans, processed("transformer_blocks"), advice=ADVICE),
    calling=Calling(timestep_entry="timestep_scale"),
    pipelines={"SanaSprintPipeline": SPRINT, "SanaSprintImg2ImgPipeline": SPRINT},
)
FAMILIES = (SANA,)
