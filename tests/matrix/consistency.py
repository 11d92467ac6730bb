"""The row of consistency models, whose scheduler scales what its denoiser makes in a way of its own."""

from __future__ import annotations

from typing import Any

import diffusers as d

from tests import tiny_networks as tiny
from tests.matrix.building import SIDE, Arguments, Row, quiet, seeded
from tests.tiny_models import Call


def network() -> Any:
    """The usual one, which says its size in one number."""
    config = dict(tiny.unet_unconditional().config) | {"sample_size": SIDE}
    return d.UNet2DModel.from_config(config)


def arguments(call: Call) -> Arguments:
    return {"batch_size": call.batch * call.images_per_prompt, "output_type": "pt"}


CONSISTENCY_ROWS: dict[str, Row] = {
    "ConsistencyModel": Row(
        "ddpm",
        lambda: quiet(d.ConsistencyModelPipeline(seeded(network), d.CMStochasticIterativeScheduler())),
        own=arguments,
    ),
}
