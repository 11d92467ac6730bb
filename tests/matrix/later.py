"""Rows of the families that came after FLUX."""

from __future__ import annotations

import warnings
from typing import Any

import diffusers as d
import torch
from PIL import Image
from torch import Tensor, nn

from tests.matrix.building import IMAGE, MASK, Row, named, seeded, variant
from tests.tiny_dit_pipelines import short_prompts
from tests.tiny_dits import kandinsky_unet
from tests.tiny_models import denoiser, pipeline

LEAST = (64, 64)  # smaller reference images are refused by FLUX.2
PICTURE = Image.fromarray((255 * IMAGE[0]).byte().movedim(0, -1).numpy()).resize(LEAST)


def started(controlnet: Any) -> Any:
    """Its outer layers start at zero, which would hide whether image and residuals arrive."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in controlnet.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3)
    return controlnet


def with_controlnet(family: str, cls: type, net: Any, **changed: Any) -> Any:
    transformer = denoiser(pipeline(family))
    config = dict(transformer.config) | {"num_layers": 1} | changed
    config.pop("_use_default_values")  # would bring back the usual number of layers
    if family == "flux":
        config |= {"num_single_layers": 1}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated", FutureWarning)  # their own
        controlnet = started(seeded(lambda: net.from_config(config)))
    return variant(family, cls, transformer=transformer, controlnet=controlnet)


def kandinsky_inpaint() -> Any:
    config = dict(kandinsky_unet().config) | {"in_channels": 9}
    config.pop("_use_default_values")
    return seeded(lambda: d.UNet2DConditionModel.from_config(config))


def double(picture: Tensor) -> Tensor:
    return picture.repeat_interleave(2, 2).repeat_interleave(2, 3)


LATER_ROWS: dict[str, Row] = {
    "QwenImage": named("qwen"),
    "QwenImageImg2Img": Row(
        "qwen",
        lambda: short_prompts(variant("qwen", d.QwenImageImg2ImgPipeline)),
        {"image": IMAGE, "strength": 0.9},
    ),
    "Flux2": named("flux2"),
    "Flux2, reference image": Row("flux2", lambda: pipeline("flux2"), {"image": PICTURE}),
    "Flux2Klein": named("flux2-klein"),
    "Flux2KleinKV, reference image": Row(
        "flux2-klein",
        lambda: variant("flux2-klein", d.Flux2KleinKVPipeline),
        {"image": PICTURE},
        ("guidance_scale",),
        refused="caches keys of its reference images",
    ),
    "Lumina": named("lumina"),
    "Lumina2": named("lumina2"),
    "AuraFlow": named("auraflow"),
    "HunyuanDiT": named("hunyuan"),
    "StableDiffusion3ControlNet": Row(
        "sd3",
        lambda: with_controlnet("sd3", d.StableDiffusion3ControlNetPipeline, d.SD3ControlNetModel),
        {"control_image": IMAGE},
    ),
    "FluxControlNet": Row(
        "flux",
        lambda: with_controlnet("flux", d.FluxControlNetPipeline, d.FluxControlNetModel),
        {"control_image": IMAGE},
    ),
    "KandinskyV22": named("kandinsky"),
    "KandinskyV22Inpaint": Row(
        "kandinsky",
        lambda: variant("kandinsky", d.KandinskyV22InpaintPipeline, unet=kandinsky_inpaint()),
        {"image": 2 * double(IMAGE) - 1, "mask_image": double(MASK)},
    ),
    "Kandinsky5T2I": named("kandinsky5"),
}
