"""Rows of perturbed-attention guidance: attention is the identity in the last part of each batch."""

from __future__ import annotations

from typing import Any

import diffusers as d

from tests.matrix.building import IMAGE, MASK, Row, square_unet, variant
from tests.matrix.controls import with_controlnet
from tests.tiny_models import ARGUMENTS

STRENGTH = {"image": IMAGE, "strength": 0.9}
PAINTED = {**STRENGTH, "mask_image": MASK}
CONTROL = {"image": IMAGE}


def perturbed(family: str, cls: type, extra: dict[str, Any], drop: tuple[str, ...] = ()) -> Row:
    def build() -> Any:
        if "ControlNet" in cls.__name__:
            return with_controlnet(family, cls)
        return variant(family, cls, **({"unet": square_unet(family, 4)} if family in ("sd", "sdxl") else {}))

    return Row(
        "beside",
        build,
        extra | {"pag_scale": 2.0},
        drop,
        own=ARGUMENTS[family],
        without=("plain",) if family == "hunyuan" else (),  # fails at it without guidance
        leaves=("processors",),
    )


CONTROLLED = {**STRENGTH, "control_image": IMAGE.flip(3)}
PERTURBED_ROWS: dict[str, Row] = {
    "StableDiffusionPAG": perturbed("sd", d.StableDiffusionPAGPipeline, {}),
    "StableDiffusionPAGImg2Img": perturbed(
        "sd", d.StableDiffusionPAGImg2ImgPipeline, STRENGTH, ("height", "width")
    ),
    "StableDiffusionPAGInpaint": perturbed("sd", d.StableDiffusionPAGInpaintPipeline, PAINTED),
    "StableDiffusionControlNetPAG": perturbed("sd", d.StableDiffusionControlNetPAGPipeline, CONTROL),
    "StableDiffusionControlNetPAGInpaint": perturbed(
        "sd", d.StableDiffusionControlNetPAGInpaintPipeline, {**CONTROLLED, "mask_image": MASK}
    ),
    "StableDiffusionXLPAG": perturbed("sdxl", d.StableDiffusionXLPAGPipeline, {}),
    "StableDiffusionXLPAGImg2Img": perturbed(
        "sdxl", d.StableDiffusionXLPAGImg2ImgPipeline, STRENGTH, ("height", "width")
    ),
    "StableDiffusionXLPAGInpaint": perturbed("sdxl", d.StableDiffusionXLPAGInpaintPipeline, PAINTED),
    "StableDiffusionXLControlNetPAG": perturbed("sdxl", d.StableDiffusionXLControlNetPAGPipeline, CONTROL),
    "StableDiffusionXLControlNetPAGImg2Img": perturbed(
        "sdxl", d.StableDiffusionXLControlNetPAGImg2ImgPipeline, CONTROLLED
    ),
    "StableDiffusion3PAG": perturbed("sd3", d.StableDiffusion3PAGPipeline, {}),
    "StableDiffusion3PAGImg2Img": perturbed("sd3", d.StableDiffusion3PAGImg2ImgPipeline, STRENGTH),
    "PixArtSigmaPAG": perturbed("pixart", d.PixArtSigmaPAGPipeline, {}),
    "HunyuanDiTPAG": perturbed("hunyuan", d.HunyuanDiTPAGPipeline, {}),
}
