"""Allegro: a video as one chain, whose text is apart."""

from __future__ import annotations

from tokenrank_guidance.families.calling import Calling, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import Tokens, middle_layer
from tokenrank_guidance.families.volume import layers, volume_spans
from tokenrank_guidance.families.words import APART

ALLEGRO = Family(
    models=("AllegroTransformer3DModel",),
    tokens=Tokens(volume_spans, layers("attn1", "transformer_blocks"), middle_layer),
    calling=Calling(edit=edit_video),
    wordless=APART,
)
FAMILIES = (ALLEGRO,)
