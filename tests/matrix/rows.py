"""The rows of the support matrix: tiny pipelines, each with the arguments of its shortest call.

Random weights, no network. Every row is one call that a user would write; what a feature changes is in
`tests.matrix.features`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import diffusers as d
import torch
from torch import Tensor, nn

from tests import tiny_networks as tiny
from tests.tiny_models import ARGUMENTS, PROMPT, Call, ddim, denoiser, pipeline, sharpen

STEPS = 3
SIDE = 32
IMAGE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
MASK = torch.zeros(1, 1, SIDE, SIDE)
MASK[..., : SIDE // 2] = 1
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One pipeline: its `family`, how to build it, and the arguments its call has beside the family's.

    `refused`: the text, or part of it, of the error that guiding it raises; empty where guidance works.
    """

    family: str
    build: Callable[[], Any]
    extra: Arguments = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    refused: str = ""

    def arguments(self, call: Call) -> Arguments:
        extra = {
            name: torch.cat([value] * call.batch) if isinstance(value, Tensor) else value
            for name, value in self.extra.items()
        }
        own = ARGUMENTS[self.family](call) | {"num_inference_steps": call.steps} | extra
        return {name: value for name, value in own.items() if name not in self.drop}


def seeded(build: Callable[[], nn.Module]) -> Any:
    """A network from a fixed seed, whose attention maps are far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build().eval()
    sharpen(network)
    return network


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def variant(family: str, cls: type, **parts: Any) -> Any:
    """A pipeline of another class on the components of `family`, some of them exchanged by `parts`."""
    taken = inspect.signature(cls.__init__).parameters
    components = {k: part for k, part in (pipeline(family).components | parts).items() if k in taken}
    if components.get("vae") is not None:
        components["vae"].register_to_config(shift_factor=0.1)  # SD3 and FLUX encode with it
    options = {"requires_safety_checker": False} if family == "sd" else {}
    options |= {"add_watermarker": False} if family == "sdxl" else {}
    return quiet(cls(**components, **options))


def square_unet(family: str, channels: int) -> Any:
    """The family's UNet with another number of input channels, saying its size in one number."""
    built = tiny.unet() if family == "sd" else tiny.unet_xl()
    config = dict(built.config) | {"in_channels": channels, "sample_size": 16}
    config.pop("_use_default_values")  # would bring back the usual number of channels
    return seeded(lambda: d.UNet2DConditionModel.from_config(config))


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


def without_weights(cls: type) -> Any:
    """A pipeline of a denoiser that is refused before it runs: its class is all that is looked at."""
    network: Any = cls.__new__(cls)
    nn.Module.__init__(network)
    return SimpleNamespace(transformer=network, scheduler=ddim())


def refused(cls: type, reason: str) -> Row:
    return Row("none", lambda: without_weights(cls), refused=reason)


def flux_in(channels: int, out_channels: int = 16) -> Any:
    """FLUX whose input holds a control or masked image's channels beside the latents."""
    config = dict(tiny.flux().config) | {"in_channels": channels, "out_channels": out_channels}
    config.pop("_use_default_values")  # would bring back the usual number of channels
    return seeded(lambda: d.FluxTransformer2DModel.from_config(config))


def named(family: str) -> Row:
    return Row(family, lambda: pipeline(family))


def image_to_image(family: str, cls: type) -> Row:
    unet = family in ("sd", "sdxl")
    return Row(
        family,
        lambda: variant(family, cls, **({"unet": square_unet(family, 4)} if unet else {})),
        {"image": IMAGE, "strength": 0.9},
        ("height", "width") if unet else (),
    )


def inpaint(family: str, cls: type, channels: int) -> Row:
    return Row(
        family,
        lambda: variant(family, cls, unet=square_unet(family, channels)),
        {"image": IMAGE, "mask_image": MASK, "strength": 0.9},
    )


ROWS: dict[str, Row] = {
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
        lambda: variant("sd", d.StableDiffusionAdapterPipeline, unet=square_unet("sd", 4), adapter=adapter()),
        {"image": IMAGE},
    ),
    "StableDiffusionPAG": Row(
        "sd",
        lambda: variant("sd", d.StableDiffusionPAGPipeline, unet=square_unet("sd", 4)),
        {"pag_scale": 1.0},
        refused="perturbs attention in a part of its batch",
    ),
    "StableDiffusionInstructPix2Pix": Row(
        "sd",
        lambda: variant("sd", d.StableDiffusionInstructPix2PixPipeline, unet=square_unet("sd", 8)),
        {"image": IMAGE},
        ("height", "width"),
        refused="a third part, as InstructPix2Pix has it, is not supported",
    ),
    "StableDiffusionXL": named("sdxl"),
    "StableDiffusionXLImg2Img": image_to_image("sdxl", d.StableDiffusionXLImg2ImgPipeline),
    "StableDiffusionXLInpaint": inpaint("sdxl", d.StableDiffusionXLInpaintPipeline, 9),
    "StableDiffusionXLInpaint, 4 channels": inpaint("sdxl", d.StableDiffusionXLInpaintPipeline, 4),
    "StableDiffusionXLControlNet": Row(
        "sdxl", lambda: with_controlnet("sdxl", d.StableDiffusionXLControlNetPipeline), {"image": IMAGE}
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
    "AuraFlow": refused(d.AuraFlowTransformer2DModel, "where its image tokens are is not known"),
    "Flux2": refused(d.Flux2Transformer2DModel, "where its image tokens are is not known"),
    "HunyuanDiT": refused(d.HunyuanDiT2DModel, "where its image tokens are is not known"),
    "Lumina": refused(d.LuminaNextDiT2DModel, "where its image tokens are is not known"),
    "Lumina2": refused(d.Lumina2Transformer2DModel, "where its image tokens are is not known"),
    "QwenImage": refused(d.QwenImageTransformer2DModel, "where its image tokens are is not known"),
    "Sana": refused(d.SanaTransformer2DModel, "its self-attention is linear"),
    "Wan": refused(d.WanTransformer3DModel, "its latents have a time axis"),
}


def run(pipe: Any, arguments: Arguments, seed: int = 0) -> Tensor:
    """Latents, or images where the pipeline has none."""
    images = pipe(**arguments, generator=torch.Generator().manual_seed(seed)).images
    return torch.as_tensor(images)


__all__ = ["PROMPT", "ROWS", "STEPS", "Arguments", "Row", "quiet", "run", "seeded", "variant"]
