"""Cosmos: videos as one chain, whose text is apart; the frames that a mask names are given."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Habits, Inputs, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import Tokens, middle_layer
from tokenrank_guidance.families.unet import PRECONDITIONED
from tokenrank_guidance.families.volume import layers, volume_spans
from tokenrank_guidance.families.words import APART


def _held(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "b 1 t h w"] | None:
    mask = inputs.get("condition_mask")
    return None if mask is None else mask > 0


def _times(inputs: Inputs) -> Float[Tensor, "b *frames"]:
    """Frames that are given have a time of their own, which may be above that of those that are drawn."""
    times, mask = inputs["timestep"], inputs.get("condition_mask")
    if mask is None or times.ndim == 1:
        return times
    return times.masked_fill(mask.amax((-1, -2), keepdim=True) > 0, 0)


COSMOS = Family(
    models=("CosmosTransformer3DModel",),
    tokens=Tokens(volume_spans, layers("attn1", "transformer_blocks"), middle_layer),
    calling=Calling(
        prompt_first=True,
        timestep_scale=1000.0,
        edit=edit_video,
        held=_held,
        times=_times,
    ),
    pipelines={
        "CosmosTextToWorldPipeline": Habits(refused=PRECONDITIONED),
        "CosmosVideoToWorldPipeline": Habits(refused=PRECONDITIONED),
        "Cosmos2TextToImagePipeline": Habits(refused=PRECONDITIONED),
        "Cosmos2VideoToWorldPipeline": Habits(refused=PRECONDITIONED),
    },
    wordless=APART,
)
FAMILIES = (COSMOS,)
