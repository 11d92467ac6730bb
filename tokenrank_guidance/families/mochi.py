"""Mochi: each video attends with the words of its own prompt, none of their padding, in a call of its own."""

from __future__ import annotations

from dataclasses import replace

from tokenrank_guidance.families.calling import Calling, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans
from tokenrank_guidance.families.volume import layers, volume_spans
from tokenrank_guidance.families.words import VIDEO


def _spans(call: ForwardPass) -> TokenSpans:
    return replace(volume_spans(call), rows=len(call.inputs["hidden_states"]))


MOCHI = Family(
    models=("MochiTransformer3DModel",),
    tokens=Tokens(_spans, layers("attn1", "transformer_blocks")),
    calling=Calling(edit=edit_video),
    wordless=VIDEO,
)
FAMILIES = (MOCHI,)
