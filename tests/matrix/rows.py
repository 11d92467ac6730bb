"""The rows of the support matrix: tiny pipelines, each with the arguments of its shortest call.

Random weights, no network. Every row is one call that a user would write; what a feature changes is in
`tests.matrix.features`.
"""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from torch import nn

from tests import tiny_networks as tiny
from tests.matrix.beside import BESIDE_ROWS
from tests.matrix.building import (
    IMAGE,
    MASK,
    SIDE,
    STEPS,
    Arguments,
    Row,
    image_to_image,
    inpaint,
    named,
    quiet,
    refused,
    run,
    seeded,
    square_unet,
    variant,
)
from tests.matrix.consistency import CONSISTENCY_ROWS
from tests.matrix.later import LATER_ROWS
from tests.matrix.listed import LISTED_ROWS
from tests.matrix.sana import SANA_ROWS
from tests.matrix.twins import TWIN_ROWS
from tests.tiny_models import PROMPT, denoiser, pipeline

LATENTS = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))


def controlnet(unet: Any) -> Any:
    """Its outer convolutions start at zero, which would hide whether image and residuals arrive."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = d.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
        for part in (
            net.controlnet_cond_embedding.conv_out,
            net.controlnet_down_blocks,
            net.controlnet_mid_block,
        ):
            for parameter in part.parameters():
                nn.init.normal_(parameter, std=0.3)
    return net.eval()


def with_controlnet(family: str, cls: type) -> Any:
    unet = denoiser(pipeline(family))
    return variant(family, cls, unet=unet, controlnet=controlnet(unet))


def adapter() -> Any:
    """One feature map for each level of the tiny UNet, in the width of that level."""
    return seeded(
        lambda: d.T2IAdapter(
            3, channels=[16, 32], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
        )
    )


def refiner() -> Any:
    """It reads the second text encoder alone, and an aesthetic score in place of a target size."""
    config = dict(square_unet("sdxl", 4).config) | {
        "cross_attention_dim": 16,
        "projection_class_embeddings_input_dim": 16 + 5 * 8,
    }
    unet = seeded(lambda: d.UNet2DConditionModel.from_config(config))
    parts = {"unet": unet, "text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
    return variant("sdxl", d.StableDiffusionXLImg2ImgPipeline, **parts)


def flux_in(channels: int, out_channels: int = 16) -> Any:
    """FLUX whose input holds a control or masked image's channels beside the latents."""
    config = dict(tiny.flux().config) | {"in_channels": channels, "out_channels": out_channels}
    config.pop("_use_default_values")  # would bring back the usual number of channels
    return seeded(lambda: d.FluxTransformer2DModel.from_config(config))


ROWS: dict[str, Row] = (
    {
        "StableDiffusion": named("sd"),
        "StableDiffusionImg2Img": image_to_image("sd", d.StableDiffusionImg2ImgPipeline),
        "StableDiffusionInpaint": inpaint("sd", d.StableDiffusionInpaintPipeline, 9),
        "StableDiffusionInpaint, 4 channels": inpaint("sd", d.StableDiffusionInpaintPipeline, 4),
        "StableDiffusionControlNet": Row(
            "sd", lambda: with_controlnet("sd", d.StableDiffusionControlNetPipeline), {"image": IMAGE}
        ),
        "StableDiffusionControlNetImg2Img": Row(
            "sd",
            lambda: with_controlnet("sd", d.StableDiffusionControlNetImg2ImgPipeline),
            {"image": IMAGE, "control_image": IMAGE.flip(3), "strength": 0.9},
        ),
        "StableDiffusionAdapter": Row(
            "sd",
            lambda: variant(
                "sd", d.StableDiffusionAdapterPipeline, unet=square_unet("sd", 4), adapter=adapter()
            ),
            {"image": IMAGE},
        ),
        "StableDiffusionPAG": Row(
            "sd",
            lambda: variant("sd", d.StableDiffusionPAGPipeline, unet=square_unet("sd", 4)),
            {"pag_scale": 1.0},
            refused="perturbs attention in a part of its batch",
        ),
        "StableDiffusionXL": named("sdxl"),
        "StableDiffusionXLImg2Img": image_to_image("sdxl", d.StableDiffusionXLImg2ImgPipeline),
        "StableDiffusionXLInpaint": inpaint("sdxl", d.StableDiffusionXLInpaintPipeline, 9),
        "StableDiffusionXLInpaint, 4 channels": inpaint("sdxl", d.StableDiffusionXLInpaintPipeline, 4),
        "StableDiffusionXLControlNet": Row(
            "sdxl", lambda: with_controlnet("sdxl", d.StableDiffusionXLControlNetPipeline), {"image": IMAGE}
        ),
        "StableDiffusionXLImg2Img, refiner": Row(
            "sdxl",
            refiner,
            {"image": LATENTS, "denoising_start": 0.5},
            ("height", "width"),
        ),
        "StableDiffusion3": named("sd3"),
        "StableDiffusion3Img2Img": image_to_image("sd3", d.StableDiffusion3Img2ImgPipeline),
        "Flux": named("flux"),
        "FluxImg2Img": image_to_image("flux", d.FluxImg2ImgPipeline),
        "FluxKontext": Row(
            "flux",
            lambda: variant("flux", d.FluxKontextPipeline),
            {"image": IMAGE, "_auto_resize": False, "max_area": SIDE * SIDE},
        ),
        "FluxControl": Row(
            "flux",
            lambda: variant("flux", d.FluxControlPipeline, transformer=flux_in(32)),
            {"control_image": IMAGE},
            ("true_cfg_scale", "negative_prompt"),
        ),
        "FluxFill": Row(
            "flux",
            lambda: variant("flux", d.FluxFillPipeline, transformer=flux_in(16 + 16 + 16)),
            {"image": IMAGE, "mask_image": MASK},
            ("true_cfg_scale", "negative_prompt"),
        ),
        "PixArtSigma": named("pixart"),
        "DiT": named("dit"),
        "DDPM": Row("ddpm", lambda: pipeline("ddpm"), {"output_type": "pt"}),  # numpy knows no bfloat16
        "AnimateDiff": refused(d.UNetMotionModel, "its frames share the batch axis"),
        "Wan": refused(d.WanTransformer3DModel, "its latents have a time axis"),
    }
    | BESIDE_ROWS
    | LATER_ROWS
    | SANA_ROWS
    | CONSISTENCY_ROWS
    | LISTED_ROWS
    | TWIN_ROWS
)

__all__ = ["PROMPT", "ROWS", "STEPS", "Arguments", "Row", "quiet", "run", "seeded", "variant"]
