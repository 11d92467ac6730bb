"""The rows of the support matrix: tiny pipelines, each with the arguments of its shortest call.

Random weights, no network. Every row is one call that a user would write; what a feature changes is in
`tests.matrix.features`.
"""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch

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
    run,
    seeded,
    square_unet,
    variant,
)
from tests.matrix.cascades import CASCADE_ROWS
from tests.matrix.consistency import CONSISTENCY_ROWS
from tests.matrix.controls import adapter, with_controlnet
from tests.matrix.elders import ELDER_ROWS
from tests.matrix.factorised import FACTORISED_ROWS
from tests.matrix.helios import HELIOS_ROWS
from tests.matrix.kandinsky6 import KANDINSKY6_ROWS
from tests.matrix.kandinskys import KANDINSKY_ROWS
from tests.matrix.kolors import KOLORS_ROWS
from tests.matrix.later import LATER_ROWS
from tests.matrix.listed import LISTED_ROWS
from tests.matrix.ltx2 import LTX2_ROWS
from tests.matrix.packed import PACKED_ROWS, flux_in
from tests.matrix.perturbed import PERTURBED_ROWS
from tests.matrix.sana import SANA_ROWS
from tests.matrix.subjects import SUBJECT_ROWS
from tests.matrix.twins import TWIN_ROWS
from tests.matrix.unets import UNET_ROWS
from tests.matrix.video import VIDEO_ROWS
from tests.matrix.video_later import LATER_VIDEO_ROWS
from tests.tiny_models import PROMPT, pipeline

LATENTS = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))


def refiner() -> Any:
    """It reads the second text encoder alone, and an aesthetic score in place of a target size."""
    config = dict(square_unet("sdxl", 4).config) | {
        "cross_attention_dim": 16,
        "projection_class_embeddings_input_dim": 16 + 5 * 8,
    }
    unet = seeded(lambda: d.UNet2DConditionModel.from_config(config))
    parts = {"unet": unet, "text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
    return variant("sdxl", d.StableDiffusionXLImg2ImgPipeline, **parts)


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
    }
    | BESIDE_ROWS
    | LATER_ROWS
    | SANA_ROWS
    | CONSISTENCY_ROWS
    | CASCADE_ROWS
    | LISTED_ROWS
    | TWIN_ROWS
    | VIDEO_ROWS
    | LATER_VIDEO_ROWS
    | LTX2_ROWS
    | HELIOS_ROWS
    | KANDINSKY6_ROWS
    | FACTORISED_ROWS
    | UNET_ROWS
    | PACKED_ROWS
    | PERTURBED_ROWS
    | KANDINSKY_ROWS
    | ELDER_ROWS
    | KOLORS_ROWS
    | SUBJECT_ROWS
)

__all__ = ["PROMPT", "ROWS", "STEPS", "Arguments", "Row", "quiet", "run", "seeded", "variant"]
