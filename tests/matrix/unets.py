"""Rows of pipelines over Stable Diffusion's UNets that came after those that people use first."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers as d
import torch
from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder
from diffusers.pipelines.stable_diffusion.clip_image_project_model import CLIPImageProjection
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from torch import nn

from tests import tiny_clips as clips
from tests import tiny_networks as tiny
from tests.matrix.beside import embedded, enlarged, marigold, seen, sized, stage, stage_unet, text
from tests.matrix.building import IMAGE, MASK, SIDE, Arguments, Row, quiet, seeded, square_unet, variant
from tests.matrix.controls import with_controlnet
from tests.matrix.later import PICTURE
from tests.tiny_models import ARGUMENTS, Call, denoiser, pipeline

STRENGTH = {"image": IMAGE, "strength": 0.9}
PAINTED = {**STRENGTH, "mask_image": MASK}
BESIDE = "beside"
CONTROL = {
    "conditioning_embedding_out_channels": (4, 8),
    "num_trans_channel": 16,
    "num_proj_channel": 16,
    "num_trans_head": 2,
}


def row(family: str, cls: type, extra: Arguments, own: Any = sized, channels: int = 4, **options: Any) -> Row:
    """A row of few features over a UNet of so many input channels."""
    return Row(
        BESIDE, lambda: variant(family, cls, unet=square_unet(family, channels)), extra, own=own, **options
    )


def controlled(family: str, cls: type, extra: Arguments, channels: int = 4) -> Row:
    unet = None if channels == 4 else square_unet(family, channels)
    return Row(BESIDE, lambda: with_controlnet(family, cls, unet), extra, own=sized)


def union(cls: type, extra: Arguments) -> Row:
    def build() -> Any:
        """What it adds starts at zero, which would hide whether it arrives."""
        unet = denoiser(pipeline("sdxl"))
        taken = inspect.signature(d.ControlNetUnionModel.__init__).parameters
        config = {name: value for name, value in unet.config.items() if name in taken} | CONTROL
        net = seeded(lambda: d.ControlNetUnionModel(**config))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for part in (net.controlnet_down_blocks, net.controlnet_mid_block):
                for parameter in part.parameters():
                    nn.init.normal_(parameter, std=0.3)
        return variant("sdxl", cls, unet=unet, controlnet=net)

    return Row(BESIDE, build, {"control_image": [IMAGE], "control_mode": [0], **extra}, own=sized)


WITHOUT_CFG = ("CFG, negative prompt",)


def other_unet(family: str, channels: int = 4, **changed: Any) -> Any:
    """The family's UNet with other settings."""
    config = dict(square_unet(family, channels).config) | changed
    config.pop("_use_default_values", None)
    return seeded(lambda: d.UNet2DConditionModel.from_config(config))


def consistent(cls: type) -> Any:
    """Latent consistency: told of its guidance by an embedding."""
    unet = other_unet("sd", time_cond_proj_dim=16)
    return variant("sd", cls, unet=unet, scheduler=d.LCMScheduler())


def alone(call: Call) -> Arguments:
    """Without a negative prompt, as those are called that know none."""
    given = sized(call)
    del given["negative_prompt"]
    return given


def unsized(call: Call) -> Arguments:
    given = alone(call)
    return {name: value for name, value in given.items() if name not in ("height", "width")}


def gligen(cls: type) -> Any:
    """Phrases in boxes; their layers start closed, which would hide whether they arrive."""
    images = "Image" in cls.__name__
    unet = other_unet("sd", attention_type="gated-text-image" if images else "gated")
    for name, parameter in unet.named_parameters():
        if name.endswith(("alpha_attn", "alpha_dense")):
            nn.init.constant_(parameter, 0.5)
    parts = {}
    if images:
        parts = {"processor": clips.picture_processor(), "image_encoder": seeded(clips.picture_encoder)}
        parts["image_project"] = seeded(lambda: CLIPImageProjection(16))
    return variant("sd", cls, unet=unet, **parts)


def enlarged_by(call: Call) -> Arguments:
    return {name: value for name, value in enlarged(call).items() if name not in ("height", "width")}


def redrawn(call: Call) -> Arguments:
    """IF from a picture of the size that it draws."""
    given = embedded(call) | {"image": torch.cat([drawn()] * call.batch)}
    return {name: value for name, value in given.items() if name not in ("height", "width")}


def drawn() -> Any:
    return 2 * IMAGE[..., ::2, ::2] - 1


def variation() -> Any:
    parts = {"image_encoder": seeded(clips.picture_encoder), "feature_extractor": clips.picture_processor()}
    return variant("sd", d.StableDiffusionImageVariationPipeline, unet=square_unet("sd", 4), **parts)


def by_example() -> Any:
    encoder = seeded(
        lambda: PaintByExampleImageEncoder(clips.picture_encoder(hidden=32).config, proj_size=16)
    )
    parts = {"image_encoder": encoder, "feature_extractor": clips.picture_processor()}
    return variant("sd", d.PaintByExamplePipeline, unet=square_unet("sd", 9), **parts)


def unclip(cls: type) -> Any:
    """An embedding of a picture, and how noisy that is, beside the prompt."""
    unet = other_unet("sd", class_embed_type="projection", projection_class_embeddings_input_dim=32)
    noising = d.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    parts = {
        "image_normalizer": seeded(lambda: StableUnCLIPImageNormalizer(embedding_dim=16)),
        "image_noising_scheduler": noising,
        "image_encoder": seeded(clips.picture_encoder),
        "feature_extractor": clips.picture_processor(),
        "prior": seeded(clips.prior),
        "prior_scheduler": clips.prior_scheduler(),
        "prior_tokenizer": tiny.tokenizer(77),
        "prior_text_encoder": tiny.clip_projected().eval(),
    }
    return variant("sd", cls, unet=unet, **parts)


def adapter_xl() -> Any:
    return seeded(
        lambda: d.T2IAdapter(
            3, [16, 32], num_res_blocks=1, downscale_factor=4, adapter_type="full_adapter_xl"
        )
    )


def depth_vae() -> Any:
    """Pictures with their depth, in six channels."""
    config = dict(tiny.vae().config) | {"in_channels": 6, "out_channels": 6}
    return seeded(lambda: d.AutoencoderKL.from_config(config))


def pixels(cls: type, scheduler: Any) -> Any:
    """PNDM's pipeline wants a size in one number."""
    config = dict(pipeline("ddpm").unet.config) | {"sample_size": SIDE}
    return quiet(cls(seeded(lambda: d.UNet2DModel.from_config(config)), scheduler))


UNET_ROWS: dict[str, Row] = {
    "StableDiffusionControlNetInpaint": controlled(
        "sd", d.StableDiffusionControlNetInpaintPipeline, {**PAINTED, "control_image": IMAGE.flip(3)}
    ),
    "StableDiffusionXLControlNetImg2Img": controlled(
        "sdxl", d.StableDiffusionXLControlNetImg2ImgPipeline, {**STRENGTH, "control_image": IMAGE.flip(3)}
    ),
    "StableDiffusionXLControlNetInpaint": controlled(
        "sdxl", d.StableDiffusionXLControlNetInpaintPipeline, {**PAINTED, "control_image": IMAGE.flip(3)}
    ),
    "StableDiffusionXLControlNetUnion": union(d.StableDiffusionXLControlNetUnionPipeline, {}),
    "StableDiffusionXLControlNetUnionImg2Img": union(
        d.StableDiffusionXLControlNetUnionImg2ImgPipeline, STRENGTH
    ),
    "StableDiffusionXLControlNetUnionInpaint": union(
        d.StableDiffusionXLControlNetUnionInpaintPipeline, PAINTED
    ),
    "StableDiffusionLDM3D": Row(
        BESIDE,
        lambda: variant("sd", d.StableDiffusionLDM3DPipeline, unet=square_unet("sd", 4), vae=depth_vae()),
        {"output_type": "np"},
        own=sized,
    ),
    "StableDiffusionModelEditing": row("sd", d.StableDiffusionModelEditingPipeline, {}),
    "StableDiffusionInpaintLegacy": row(
        "sd",
        d.StableDiffusionInpaintPipelineLegacy,
        {"image": IMAGE, "mask_image": MASK, "strength": 0.9},
        text,
    ),
    "MarigoldIntrinsics": Row(
        BESIDE, lambda: marigold(d.MarigoldIntrinsicsPipeline), own=seen, without=("CFG, negative prompt",)
    ),
    "LatentConsistencyModel": Row(
        BESIDE, lambda: consistent(d.LatentConsistencyModelPipeline), own=alone, without=WITHOUT_CFG
    ),
    "LatentConsistencyModelImg2Img": Row(
        BESIDE,
        lambda: consistent(d.LatentConsistencyModelImg2ImgPipeline),
        STRENGTH,
        own=unsized,
        without=WITHOUT_CFG,
    ),
    "StableDiffusionXLAdapter": Row(
        BESIDE,
        lambda: variant(
            "sdxl", d.StableDiffusionXLAdapterPipeline, unet=square_unet("sdxl", 4), adapter=adapter_xl()
        ),
        {"image": IMAGE},
        own=sized,
    ),
    "StableDiffusionGLIGEN": Row(
        BESIDE,
        lambda: gligen(d.StableDiffusionGLIGENPipeline),
        {
            "gligen_phrases": ["a hat"],
            "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]],
            "gligen_scheduled_sampling_beta": 1.0,
        },
        own=sized,
    ),
    "StableDiffusionGLIGENTextImage": Row(
        BESIDE,
        lambda: gligen(d.StableDiffusionGLIGENTextImagePipeline),
        {
            "gligen_phrases": ["a hat"],
            "gligen_images": [PICTURE],
            "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]],
            "gligen_scheduled_sampling_beta": 1.0,
        },
        own=sized,
    ),
    "IFImg2Img": Row(
        BESIDE, lambda: stage(d.IFImg2ImgPipeline, stage_unet(3)), {"strength": 0.9}, own=redrawn, channels=3
    ),
    "IFInpainting": Row(
        BESIDE,
        lambda: stage(d.IFInpaintingPipeline, stage_unet(3)),
        {"strength": 0.9, "mask_image": MASK[..., ::2, ::2]},
        own=redrawn,
        channels=3,
    ),
    "IFImg2ImgSuperResolution": Row(
        BESIDE,
        lambda: stage(d.IFImg2ImgSuperResolutionPipeline, stage_unet(6)),
        {"strength": 0.9, "original_image": drawn()},
        own=enlarged_by,
        channels=3,
    ),
    "IFInpaintingSuperResolution": Row(
        BESIDE,
        lambda: stage(d.IFInpaintingSuperResolutionPipeline, stage_unet(6)),
        {"strength": 0.9, "original_image": drawn(), "mask_image": MASK[..., ::2, ::2]},
        own=enlarged_by,
        channels=3,
    ),
    "StableDiffusionImageVariation": Row(
        BESIDE, variation, {"image": IMAGE}, ("prompt", "negative_prompt"), own=sized
    ),
    "PaintByExample": Row(
        BESIDE,
        by_example,
        {"image": IMAGE, "mask_image": MASK, "example_image": IMAGE.flip(3)},
        ("prompt", "negative_prompt"),
        own=sized,
    ),
    "StableUnCLIP": Row(
        BESIDE, lambda: unclip(d.StableUnCLIPPipeline), {"prior_num_inference_steps": 2}, own=sized
    ),
    "StableUnCLIPImg2Img": Row(
        BESIDE, lambda: unclip(d.StableUnCLIPImg2ImgPipeline), {"image": PICTURE}, own=sized
    ),
    "DDIM": Row(
        "ddpm",
        lambda: pixels(d.DDIMPipeline, d.DDIMScheduler(beta_end=0.002, clip_sample=False)),
        {"output_type": "np"},
        without=("bf16",),
    ),
    "PNDM": Row(
        BESIDE,
        lambda: pixels(d.PNDMPipeline, d.PNDMScheduler(beta_end=0.002, skip_prk_steps=True)),
        {"output_type": "np"},
        own=ARGUMENTS["ddpm"],
        without=(*WITHOUT_CFG, "bf16"),
    ),
}
