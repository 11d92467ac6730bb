"""Rows whose denoiser is given a picture beside the latents, or each image in other parts than two."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.pipelines.deprecated.stable_diffusion_safe.pipeline_stable_diffusion_safe import (
    StableDiffusionPipelineSafe,
)
from torch import Tensor

from tests import tiny_networks as tiny
from tests.matrix.building import IMAGE, SIDE, Arguments, Row, quiet, seeded, square_unet, variant
from tests.tiny_models import NEGATIVE, PROMPT, Call, pipeline

CFG = 7.5
STAGE = {"block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 16}
BLOCKS = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
}
EMBEDDED = {"cross_attention_dim": 32, "encoder_hid_dim": 32, "attention_head_dim": 8}


def text(call: Call) -> Arguments:
    """A prompt for each image, and the same negative one; guided classifier-free or not."""
    return {
        "prompt": [PROMPT] * call.batch,
        "negative_prompt": [NEGATIVE] * call.batch if call.cfg else None,
        "guidance_scale": CFG if call.cfg else 1.0,
        "num_images_per_prompt": call.images_per_prompt,
        "output_type": "latent",
    }


def sized(call: Call) -> Arguments:
    return text(call) | {"height": SIDE, "width": SIDE}


def pictured(call: Call) -> Arguments:
    return text(call) | {"image": torch.cat([IMAGE] * call.batch)}


def blind(unet: Any, channels: slice) -> Any:
    """The network ignores these channels of its input: it is the network without them."""
    with torch.no_grad():
        unet.conv_in.weight[:, channels] = 0
    return unet


def depth_to_image(unet: Any = None) -> Any:
    return variant(
        "sd",
        d.StableDiffusionDepth2ImgPipeline,
        unet=unet or square_unet("sd", 5),
        depth_estimator=None,
        feature_extractor=None,
    )


def upscaler(unet: Any = None) -> Any:
    vae = tiny.vae()
    vae.register_to_config(scaling_factor=0.08333)
    return variant(
        "sd",
        d.StableDiffusionUpscalePipeline,
        unet=unet or square_unet("sd", 7),
        vae=vae,
        low_res_scheduler=d.DDPMScheduler(),
    )


def edited(family: str, unet: Any = None) -> Any:
    """InstructPix2Pix: three parts, the unconditional last, and a picture's latents beside those of all."""
    xl = family == "sdxl"
    cls = d.StableDiffusionXLInstructPix2PixPipeline if xl else d.StableDiffusionInstructPix2PixPipeline
    return variant(family, cls, unet=unet or square_unet(family, 8))


def semantic() -> Any:
    return variant("sd", d.SemanticStableDiffusionPipeline, unet=square_unet("sd", 4), feature_extractor=None)


def safe() -> Any:
    return variant("sd", StableDiffusionPipelineSafe, unet=square_unet("sd", 4), feature_extractor=None)


def deep_vae() -> Any:
    """Eight pixels a latent, which panoramas take for granted."""
    down, up = (tuple(f"{way}Block2D" for _ in range(4)) for way in ("DownEncoder", "UpDecoder"))
    return seeded(
        lambda: d.AutoencoderKL(
            block_out_channels=(4, 4, 4, 8),
            norm_num_groups=1,
            down_block_types=list(down),
            up_block_types=list(up),
        )
    )


def panorama() -> Any:
    """Views of 64×64 latents."""
    unet = square_unet("sd", 4)
    return variant("sd", d.StableDiffusionPanoramaPipeline, unet=unet, vae=deep_vae())


def marigold(cls: type, unet: Any = None) -> Any:
    """The picture's latents come first, the noisy ones last."""
    scheduler = d.DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1)
    options = {"default_denoising_steps": 2, "default_processing_resolution": SIDE}
    parts = {name: pipeline("sd").components[name] for name in ("vae", "text_encoder", "tokenizer")}
    return quiet(cls(unet=unet or square_unet("sd", 8), scheduler=scheduler, **parts, **options))


def seen(call: Call) -> Arguments:
    return {
        "image": torch.cat([IMAGE] * call.batch),
        "processing_resolution": SIDE,
        "output_type": "pt",
        "batch_size": call.batch,
    }


def stage_unet(channels: int) -> Any:
    """DeepFloyd IF's: pixels, learned variance, and the prompt's keys beside those of the pixels."""
    return seeded(
        lambda: d.UNet2DConditionModel(
            in_channels=channels,
            out_channels=6,
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            cross_attention_norm="group_norm",
            resnet_time_scale_shift="scale_shift",
            act_fn="gelu",
            **STAGE,
            **BLOCKS,
            **EMBEDDED,
        )
    )


def stage(cls: type, unet: Any) -> Any:
    """One of IF's stages. A deterministic solver, so that two stages draw the same noise."""
    scheduler = d.DPMSolverMultistepScheduler(variance_type="learned_range", prediction_type="epsilon")
    options = {"image_noising_scheduler": d.DDPMScheduler()} if "Super" in cls.__name__ else {}
    pipe = cls(
        tokenizer=None,
        text_encoder=None,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
        **options,
    )
    return quiet(pipe)


def embedded(call: Call) -> Arguments:
    generator = torch.Generator().manual_seed(8)
    prompt, negative = (torch.randn(call.batch, 7, 32, generator=generator) for _ in range(2))
    return {
        "prompt_embeds": prompt,
        "negative_prompt_embeds": negative,
        "guidance_scale": CFG if call.cfg else 1.0,
        "num_images_per_prompt": call.images_per_prompt,
        "height": 16,
        "width": 16,
        "output_type": "pt",
    }


def enlarged(call: Call) -> Arguments:
    return embedded(call) | {"image": torch.cat([small()] * call.batch)}


def small() -> Tensor:
    return 2 * IMAGE[..., ::4, ::4] - 1


BESIDE_ROWS: dict[str, Row] = {
    "StableDiffusionDepth2Img": Row(
        "beside",
        depth_to_image,
        {"depth_map": IMAGE[:, 0], "strength": 0.9},
        own=pictured,
    ),
    "StableDiffusionUpscale": Row(
        "beside",
        upscaler,
        own=lambda call: text(call) | {"image": torch.cat([IMAGE[..., ::2, ::2]] * call.batch)},
    ),
    "StableDiffusionLatentUpscale": Row(
        "beside",
        lambda: variant(
            "sd",
            d.StableDiffusionLatentUpscalePipeline,
            unet=square_unet("sd", 8),
            scheduler=d.EulerDiscreteScheduler(),
        ),
        own=pictured,
        refused="is no output of its denoiser, but that scaled",
    ),
    "StableDiffusionInstructPix2Pix": Row("beside", lambda: edited("sd"), own=pictured),
    "StableDiffusionXLInstructPix2Pix": Row(
        "beside", lambda: edited("sdxl"), own=lambda call: pictured(call) | {"height": SIDE, "width": SIDE}
    ),
    "SemanticStableDiffusion": Row(
        "beside", semantic, {"editing_prompt": ["a hat"], "edit_warmup_steps": 0}, own=sized
    ),
    "StableDiffusionSafe": Row("beside", safe, {"sld_warmup_steps": 0}, own=sized),
    "StableDiffusionPanorama": Row(
        "beside", panorama, {"height": 512, "width": 576, "view_batch_size": 2}, own=sized
    ),
    "MarigoldDepth": Row("beside", lambda: marigold(d.MarigoldDepthPipeline), own=seen),
    "MarigoldNormals": Row("beside", lambda: marigold(d.MarigoldNormalsPipeline), own=seen),
    "IF": Row("beside", lambda: stage(d.IFPipeline, stage_unet(3)), own=embedded, channels=3),
    "IFSuperResolution": Row(
        "beside", lambda: stage(d.IFSuperResolutionPipeline, stage_unet(6)), own=enlarged, channels=3
    ),
}
WITHOUT_CFG = ("MarigoldDepth", "MarigoldNormals")
