"""Rows over the transformers of FLUX, Qwen-Image, SD3 and others, that came after the first ones."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import diffusers as d
import torch

from tests import tiny_networks as tiny
from tests.matrix.building import IMAGE, MASK, SIDE, Arguments, Row, seeded, variant
from tests.matrix.later import PICTURE, started, with_controlnet
from tests.tiny_dit_pipelines import short_prompts
from tests.tiny_models import ARGUMENTS, pipeline

BESIDE = "beside"
CFG = ("CFG, negative prompt",)
STRENGTH = {"image": IMAGE, "strength": 0.9}
PAINTED = {**STRENGTH, "mask_image": MASK}
CONTROL = {"control_image": IMAGE.flip(3)}
DISTILLED = ("true_cfg_scale", "negative_prompt")


def flux_in(channels: int, out_channels: int = 16) -> Any:
    """FLUX whose input holds a control or masked image's channels beside the latents."""
    config = dict(tiny.flux().config) | {"in_channels": channels, "out_channels": out_channels}
    config.pop("_use_default_values")  # would bring back the usual number of channels
    return seeded(lambda: d.FluxTransformer2DModel.from_config(config))


def flux(cls: type, extra: Arguments, channels: int = 16, drop: tuple[str, ...] = ()) -> Row:
    """`drop`: what pipelines of distilled models alone do not take."""
    own = ARGUMENTS["flux"]

    def build() -> Any:
        return variant("flux", cls, **({"transformer": flux_in(channels)} if channels > 16 else {}))

    return Row(BESIDE, build, extra, drop, own=own, without=CFG if drop else ())


class Words:
    """Qwen-Image's processor of texts and pictures, that reads the texts."""

    def __init__(self) -> None:
        self.tokenizer = tiny.tokenizer(77)

    def __call__(self, text: list[str], images: Any, **options: Any) -> Any:
        return self.tokenizer(text, **options)


def small_dimensions(*_: Any) -> tuple[int, int, None]:
    return SIDE, SIDE, None


def small_pair(*_: Any) -> tuple[int, int]:
    return SIDE, SIDE


def edited(cls: type) -> Any:
    """Its pipelines bring pictures to a megapixel, which is too much here."""
    module: Any = sys.modules[cls.__module__]
    module.calculate_dimensions = small_pair if "Plus" in cls.__name__ else small_dimensions
    return short_prompts(variant("qwen", cls, processor=Words()))


def edit(cls: type, extra: Arguments, without: tuple[str, ...] = ()) -> Row:
    return Row(BESIDE, lambda: edited(cls), extra, own=ARGUMENTS["qwen"], without=without)


def qwen(cls: type, extra: Arguments) -> Row:
    return Row(BESIDE, lambda: short_prompts(variant("qwen", cls)), extra, own=ARGUMENTS["qwen"])


def qwen_controlled(cls: type, extra: Arguments, channels: int = 0) -> Row:
    def build() -> Any:
        config = dict(pipeline("qwen").transformer.config) | {
            "num_layers": 1,
            "extra_condition_channels": channels,
        }
        taken = inspect.signature(d.QwenImageControlNetModel.__init__).parameters
        config = {name: value for name, value in config.items() if name in taken}
        net = started(seeded(lambda: d.QwenImageControlNetModel(**config)))
        return short_prompts(variant("qwen", cls, controlnet=net))

    return Row(BESIDE, build, extra, own=ARGUMENTS["qwen"])


def sd3_inpaint(channels: int) -> Any:
    """Latents of 16 channels, which it insists on; with a mask and the masked picture 33."""
    config = dict(tiny.sd3().config) | {"in_channels": channels, "out_channels": 16}
    config.pop("_use_default_values")
    transformer = seeded(lambda: d.SD3Transformer2DModel.from_config(config))
    vae = seeded(lambda: tiny.vae(16))
    return variant("sd3", d.StableDiffusion3InpaintPipeline, transformer=transformer, vae=vae)


def hunyuan_controlled() -> Any:
    transformer = pipeline("hunyuan").transformer
    taken = inspect.signature(d.HunyuanDiT2DControlNetModel.__init__).parameters
    config = {name: value for name, value in transformer.config.items() if name in taken}
    net = seeded(lambda: d.HunyuanDiT2DControlNetModel(**config | {"transformer_num_layers": 4}))
    return variant("hunyuan", d.HunyuanDiTControlNetPipeline, controlnet=started(net))


PACKED_ROWS: dict[str, Row] = {
    "FluxInpaint": flux(d.FluxInpaintPipeline, PAINTED),
    "FluxControlImg2Img": flux(d.FluxControlImg2ImgPipeline, {**STRENGTH, **CONTROL}, 32, DISTILLED),
    "FluxControlInpaint": flux(d.FluxControlInpaintPipeline, {**PAINTED, **CONTROL}, 32, DISTILLED),
    "FluxControlNetImg2Img": Row(
        BESIDE,
        lambda: with_controlnet("flux", d.FluxControlNetImg2ImgPipeline, d.FluxControlNetModel),
        {**STRENGTH, **CONTROL},
        DISTILLED,
        own=ARGUMENTS["flux"],
        without=CFG,
    ),
    "FluxControlNetInpaint": Row(
        BESIDE,
        lambda: with_controlnet("flux", d.FluxControlNetInpaintPipeline, d.FluxControlNetModel),
        {**PAINTED, **CONTROL},
        DISTILLED,
        own=ARGUMENTS["flux"],
        without=CFG,
    ),
    "FluxKontextInpaint": flux(
        d.FluxKontextInpaintPipeline, {**PAINTED, "_auto_resize": False, "max_area": SIDE * SIDE}
    ),
    "Flux2KleinInpaint": Row(
        BESIDE,
        lambda: variant("flux2-klein", d.Flux2KleinInpaintPipeline),
        {"image": PICTURE, "mask_image": MASK, "strength": 0.9},
        own=ARGUMENTS["flux2-klein"],
    ),
    "QwenImageInpaint": qwen(d.QwenImageInpaintPipeline, PAINTED),
    "QwenImageEdit": edit(d.QwenImageEditPipeline, {"image": PICTURE}),
    "QwenImageEditPlus": edit(
        d.QwenImageEditPlusPipeline, {"image": [PICTURE]}, ("two prompts, two images each",)
    ),
    "QwenImageEditInpaint": edit(
        d.QwenImageEditInpaintPipeline, {"image": PICTURE, "mask_image": MASK, "strength": 0.9}
    ),
    "QwenImageControlNet": qwen_controlled(d.QwenImageControlNetPipeline, {"control_image": IMAGE}),
    "QwenImageControlNetInpaint": qwen_controlled(
        d.QwenImageControlNetInpaintPipeline, {"control_image": IMAGE, "control_mask": MASK}, 4
    ),
    "StableDiffusion3Inpaint": Row(BESIDE, lambda: sd3_inpaint(16), PAINTED, own=ARGUMENTS["sd3"]),
    "StableDiffusion3Inpaint, 33 channels": Row(
        BESIDE,
        lambda: sd3_inpaint(33),
        PAINTED,
        own=ARGUMENTS["sd3"],
    ),
    "StableDiffusion3ControlNetInpainting": Row(
        BESIDE,
        lambda: with_controlnet(
            "sd3",
            d.StableDiffusion3ControlNetInpaintingPipeline,
            d.SD3ControlNetModel,
            extra_conditioning_channels=1,
        ),
        {"control_image": IMAGE, "control_mask": MASK},
        own=ARGUMENTS["sd3"],
    ),
    "PixArtAlpha": Row(BESIDE, lambda: variant("pixart", d.PixArtAlphaPipeline), own=ARGUMENTS["pixart"]),
    "HunyuanDiTControlNet": Row(
        BESIDE,
        hunyuan_controlled,
        {"control_image": torch.nn.functional.interpolate(IMAGE, scale_factor=4)},
        own=ARGUMENTS["hunyuan"],
    ),
}
