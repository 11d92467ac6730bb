"""Rows of latent diffusion, AltDiffusion and DiffEdit, which few use now, and of Kandinsky 5's editing."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
    RobertaSeriesConfig,
    RobertaSeriesModelWithTransformation,
)
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

from tests import tiny_networks as tiny
from tests.matrix.beside import sized
from tests.matrix.building import (
    IMAGE,
    MASK,
    SIDE,
    STEPS,
    Arguments,
    Row,
    quiet,
    seeded,
    square_unet,
    variant,
)
from tests.matrix.later import PICTURE
from tests.tiny_models import ARGUMENTS, Call, ddim, pipeline

BESIDE = "beside"
SEVERAL = "two prompts, two images each"  # fails at it without guidance
NUMBERS = ("bf16", "CFG, negative prompt")  # its pictures are numpy's; it knows no prompt
LANGUAGE = {
    "vocab_size": len(tiny.VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}


def pixels(channels: int, made: int) -> Any:
    return seeded(
        lambda: d.UNet2DModel(
            sample_size=16,
            in_channels=channels,
            out_channels=made,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=16,
            norm_num_groups=8,
        )
    )


def codebook() -> Any:
    return seeded(
        lambda: d.VQModel(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=3,
            norm_num_groups=4,
            num_vq_embeddings=12,
        )
    )


def latent() -> Any:
    return quiet(d.LDMPipeline(codebook(), pixels(3, 3), ddim()))


def enlarging() -> Any:
    return quiet(d.LDMSuperResolutionPipeline(codebook(), pixels(6, 3), ddim()))


def of_text() -> Any:
    config = LDMBertConfig(
        vocab_size=len(tiny.VOCABULARY),
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        head_dim=8,
        d_model=16,
    )
    bert = seeded(lambda: LDMBertModel(config))
    vae = seeded(tiny.vae)
    return quiet(d.LDMTextToImagePipeline(vae, bert, tiny.tokenizer(77), square_unet("sd", 4), ddim()))


def unprompted(call: Call) -> Arguments:
    return {"batch_size": call.batch * call.images_per_prompt, "output_type": "np"}


def enlarged(call: Call) -> Arguments:
    return {"image": torch.cat([2 * IMAGE[..., ::2, ::2] - 1] * call.batch), "output_type": "np"}


def prompted(call: Call) -> Arguments:
    given = sized(call) | {"output_type": "np"}
    return {name: given[name] for name in ("prompt", "guidance_scale", "height", "width", "output_type")}


def alternative(cls: type) -> Any:
    config = RobertaSeriesConfig(**LANGUAGE, project_dim=16, max_position_embeddings=80)
    encoder = seeded(lambda: RobertaSeriesModelWithTransformation(config))
    return variant("sd", cls, unet=square_unet("sd", 4), text_encoder=encoder)


def edited() -> Any:
    parts = {"inverse_scheduler": d.DDIMInverseScheduler.from_config(ddim().config)}
    return variant("sd", d.StableDiffusionDiffEditPipeline, unet=square_unet("sd", 4), **parts)


def inverted(call: Call) -> Arguments:
    """The picture's latents at each step, as `invert` gives them, and where it is to change."""
    shape = (call.batch, STEPS, 4, SIDE // 2, SIDE // 2)
    latents = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    mask = torch.cat([MASK[:, 0, ::2, ::2]] * call.batch)
    given = sized(call) | {"image_latents": latents, "mask_image": mask, "inpaint_strength": 1.0}
    return {name: value for name, value in given.items() if name not in ("height", "width")}


class Looking:
    """Kandinsky's processor of texts and pictures, that reads the texts."""

    def __call__(self, text: list[str], images: Any, videos: Any, **options: Any) -> Any:
        return tiny.tokenizer(77)(text, **options)


def redrawn() -> Any:
    """A picture's latents and a mask beside the noisy ones."""
    pipe: Any = pipeline("kandinsky5")
    config = dict(pipe.transformer.config) | {"visual_cond": True}
    config.pop("_use_default_values", None)
    transformer = seeded(lambda: d.Kandinsky5Transformer3DModel.from_config(config))
    parts = pipe.components | {"transformer": transformer, "tokenizer": Looking()}
    pipe = quiet(d.Kandinsky5I2IPipeline(**parts))
    pipe.prompt_template, pipe.prompt_template_encode_start_idx = "{}", 0
    pipe.resolutions = [(128, 128)]
    return pipe


ELDER_ROWS: dict[str, Row] = {
    "LDM": Row(BESIDE, latent, own=unprompted, without=NUMBERS),
    "LDMSuperResolution": Row(BESIDE, enlarging, own=enlarged, without=NUMBERS),
    "LDMTextToImage": Row(BESIDE, of_text, own=prompted, without=("bf16",)),
    "AltDiffusion": Row(BESIDE, lambda: alternative(d.AltDiffusionPipeline), own=sized),
    "AltDiffusionImg2Img": Row(
        BESIDE,
        lambda: alternative(d.AltDiffusionImg2ImgPipeline),
        {"image": IMAGE, "strength": 0.9},
        ("height", "width"),
        own=sized,
    ),
    "StableDiffusionDiffEdit": Row(BESIDE, edited, own=inverted),
    "Kandinsky5I2I": Row(
        BESIDE, redrawn, {"image": PICTURE}, own=ARGUMENTS["kandinsky5"], without=(SEVERAL,)
    ),
}
