"""Mochi: each video attends with the words of its own prompt, none of their padding, in a call of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tokenrank_guidance.families.calling import Calling, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import longest_text
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans
from tokenrank_guidance.families.volume import layers, volume_spans
from tokenrank_guidance.families.words import TextTokens, Words, text_tokens, without_padding


def _spans(call: ForwardPass) -> TokenSpans:
    return replace(volume_spans(call), rows=len(call.inputs["hidden_states"]))


def _words(pipe: Any) -> list[TextTokens]:
    return [text_tokens(pipe.tokenizer, longest_text(pipe), kept=without_padding)]


MOCHI = Family(
    models=("MochiTransformer3DModel",),
    tokens=Tokens(_spans, layers("attn1", "transformer_blocks")),
    calling=Calling(edit=edit_video),
    words=Words(_words, joint=True),
)
FAMILIES = (MOCHI,)
