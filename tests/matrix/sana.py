"""Rows of Sana's pipelines."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers as d
import torch
from torch import nn

from tests import tiny_sana as tiny
from tests.matrix.building import IMAGE, Arguments, Row, quiet, seeded
from tests.tiny_models import Call


def sana(cls: type, network: Any = None, scheduler: Any = None, **more: Any) -> Any:
    parts = tiny.parts(network or seeded(tiny.transformer), scheduler or tiny.flow_scheduler())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return quiet(cls(**parts, **more))


def sprint(cls: type) -> Any:
    """It guides by a number that its denoiser is given, and steps by angles."""
    network = seeded(lambda: tiny.transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads"))
    return sana(cls, network, d.SCMScheduler())


def controlled() -> Any:
    """Its outer layers start at zero, which would hide whether the image arrives."""
    network = seeded(tiny.transformer)
    taken = inspect.signature(d.SanaControlNetModel).parameters
    config = {name: value for name, value in network.config.items() if name in taken} | {"num_layers": 1}
    net = seeded(lambda: d.SanaControlNetModel(**config))
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    return sana(d.SanaControlNetPipeline, network, controlnet=net)


def sprinted(call: Call) -> Arguments:
    given = tiny.arguments(call) | {"intermediate_timesteps": None}
    del given["negative_prompt"]
    return given | {"guidance_scale": 4.5}


def row(build: Any, extra: Arguments | None = None, **options: Any) -> Row:
    return Row("sana", build, extra or {}, own=options.pop("own", tiny.arguments), **options)


SANA_ROWS: dict[str, Row] = {
    "Sana": row(lambda: sana(d.SanaPipeline)),
    "Sana, timestep_scale": row(
        lambda: sana(d.SanaPipeline, seeded(lambda: tiny.transformer(timestep_scale=0.5, out_channels=8)))
    ),
    "SanaPAG": row(
        lambda: sana(d.SanaPAGPipeline, pag_applied_layers=["blocks.1"]),
        {"pag_scale": 1.0},
        leaves=("processors",),
    ),
    "SanaPAG, pag_scale 0": row(
        lambda: sana(d.SanaPAGPipeline, pag_applied_layers=["blocks.1"]), {"pag_scale": 0.0}
    ),
    "SanaControlNet": row(controlled, {"control_image": IMAGE}),
    "SanaSprint": row(lambda: sprint(d.SanaSprintPipeline), own=sprinted),
    "SanaSprintImg2Img": row(
        lambda: sprint(d.SanaSprintImg2ImgPipeline), {"image": IMAGE, "strength": 0.7}, own=sprinted
    ),
}
WITHOUT_CFG = ("SanaSprint", "SanaSprintImg2Img")
