"""Allegro: a video as one chain, whose text is apart."""

from __future__ import annotations

from typing import Any

from tokenrank_guidance.families.calling import Calling, Inputs, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import Tokens, middle_layer
from tokenrank_guidance.families.volume import layers, volume_spans


def _all_positions(inputs: Inputs, rows: slice) -> Any:
    """One for each place along an axis, of which there may be as many as rows."""
    return inputs["image_rotary_emb"]


ALLEGRO = Family(
    models=("AllegroTransformer3DModel",),
    tokens=Tokens(volume_spans, layers("attn1", "transformer_blocks"), middle_layer),
    calling=Calling(edit=edit_video, rows={"image_rotary_emb": _all_positions}),
)
FAMILIES = (ALLEGRO,)
