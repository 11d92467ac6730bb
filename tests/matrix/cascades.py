"""Rows of Stable Cascade and Würstchen: their priors, their decoders, and both one after the other."""

from __future__ import annotations

from functools import partial

import diffusers as d
import torch

from tests import tiny_cascades as tiny
from tests.matrix.building import Arguments, Row
from tests.tiny_models import NEGATIVE, PROMPT, Call

FAMILY = "cascade"
SIZE = {"height": 256, "width": 290}  # latents of 6 by 7, of which a decoder of the tests makes 24 by 28
ROWS_AND_COLUMNS = (6, 7)


def prompted(call: Call) -> Arguments:
    return {
        "prompt": [f"{PROMPT} {i}" for i in range(call.batch)],
        "negative_prompt": [NEGATIVE] * call.batch if call.cfg else None,
        "guidance_scale": 4.0 if call.cfg else 1.0,
        "num_images_per_prompt": call.images_per_prompt,
    }


def small(call: Call) -> Arguments:
    return prompted(call) | SIZE


def drawn(call: Call) -> Arguments:
    """A decoder's: as many pictures as there are latents of the prior's, which tell the size."""
    count = call.batch * call.images_per_prompt
    latents = torch.randn(count, tiny.WIDTH, *ROWS_AND_COLUMNS, generator=torch.Generator().manual_seed(7))
    return prompted(call) | {
        "num_images_per_prompt": 1,
        "image_embeddings": latents,
        "output_type": "latent",
    }


def one_prompt(call: Call) -> Arguments:
    """Würstchen's decoder repeats its prompt for each picture."""
    return drawn(call) | {"prompt": PROMPT, "negative_prompt": NEGATIVE if call.cfg else None}


def both(call: Call) -> Arguments:
    """The prior is guided classifier-free, as it is by default."""
    given = prompted(call) | {"height": 128, "width": 250, "output_type": "latent"}
    scale = given.pop("guidance_scale")
    return given | {"decoder_guidance_scale": scale, "prior_num_inference_steps": 2}


def both_of_one_prompt(call: Call) -> Arguments:
    given = both(call) | {"num_images_per_prompt": call.batch * call.images_per_prompt}
    return given | {"prompt": PROMPT, "negative_prompt": NEGATIVE if call.cfg else None}


CASCADE_ROWS: dict[str, Row] = {
    "StableCascadePrior": Row(
        FAMILY, partial(tiny.prior, d.StableCascadePriorPipeline, tiny.STABLE_PRIOR), own=small
    ),
    "StableCascadeDecoder": Row(
        FAMILY, partial(tiny.decoder, d.StableCascadeDecoderPipeline, tiny.STABLE), own=drawn
    ),
    "StableCascadeCombined": Row(
        FAMILY,
        partial(tiny.combined, d.StableCascadeCombinedPipeline, tiny.STABLE, tiny.STABLE_PRIOR),
        own=both,
    ),
    "WuerstchenPrior": Row(
        FAMILY, partial(tiny.prior, d.WuerstchenPriorPipeline, tiny.WUERSTCHEN_PRIOR), own=small
    ),
    "WuerstchenDecoder": Row(
        FAMILY, partial(tiny.decoder, d.WuerstchenDecoderPipeline, tiny.WUERSTCHEN), own=one_prompt
    ),
    "WuerstchenCombined": Row(
        FAMILY,
        partial(tiny.combined, d.WuerstchenCombinedPipeline, tiny.WUERSTCHEN, tiny.WUERSTCHEN_PRIOR),
        own=both_of_one_prompt,
    ),
}
