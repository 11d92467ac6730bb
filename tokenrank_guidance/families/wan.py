"""Wan 2.1 and 2.2, and what is built on it: videos as one chain, whose text is apart."""

from __future__ import annotations

from tokenrank_guidance.families.calling import Calling, Habits, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import Tokens, middle_layer
from tokenrank_guidance.families.volume import held_by_time, layers, volume_spans
from tokenrank_guidance.families.words import APART

EACH_FRAME = (
    "it steps every frame by a copy of its scheduler, each at a time of its own, of which none is read"
)

WAN = Family(
    models=(
        *("WanTransformer3DModel", "WanVACETransformer3DModel", "WanAnimateTransformer3DModel"),
        *("SkyReelsV2Transformer3DModel", "ChronoEditTransformer3DModel"),
    ),
    tokens=Tokens(volume_spans, layers("attn1", "blocks"), middle_layer),
    calling=Calling(prompt_first=True, edit=edit_video, held=held_by_time),
    pipelines={
        "SkyReelsV2DiffusionForcingPipeline": Habits(refused=EACH_FRAME),
        "SkyReelsV2DiffusionForcingImageToVideoPipeline": Habits(refused=EACH_FRAME),
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline": Habits(refused=EACH_FRAME),
    },
    wordless=APART,
)
FAMILIES = (WAN,)
