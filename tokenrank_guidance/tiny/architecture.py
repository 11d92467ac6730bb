"""The embedded models' parts: real diffusers and transformers classes, in miniature."""

# The libraries annotate the full-sized parts; these are their documented stand-ins.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tokenrank_guidance.tiny.tokenizer import MAX_TOKENS, SPECIAL, build_tokenizer, vocabulary

LATENT_CHANNELS = 8
TEXT_WIDTH = 128
PIXELS_PER_LATENT = 4
HEAD = 32


@dataclass(frozen=True)
class Size:
    """How large the networks are: by default as large as those that are shipped."""

    autoencoder: int = 64  # channels
    blocks: tuple[int, int] = (2, 5)  # of the FLUX transformer: double and single ones
    heads: int = 8  # of width 32, there
    unet: tuple[int, int] = (96, 192)  # channels at full and half latent resolution, in heads of 32


SHIPPED = Size()


def build_autoencoder(size: Size = SHIPPED) -> AutoencoderTiny:
    """Autoencoder of 3×H×W images and 8×H/4×W/4 latents with unit variance (1.5 M parameters)."""
    channels = (size.autoencoder,) * 3
    return AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=(1, 1, 3),
        num_decoder_blocks=(3, 3, 1),
        latent_channels=LATENT_CHANNELS,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def build_clip() -> CLIPTextModel:
    """CLIP text encoder of two layers and width 128 over the caption vocabulary."""
    ids = {name.strip("<>"): i for i, name in enumerate(SPECIAL)}
    config = CLIPTextConfig(
        vocab_size=len(vocabulary()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=ids["pad"],
        bos_token_id=ids["bos"],
        eos_token_id=ids["eos"],
    )
    return CLIPTextModel(config)


def build_t5() -> T5EncoderModel:
    """T5 encoder of two layers and width 128 over the caption vocabulary."""
    config = T5Config(
        vocab_size=len(vocabulary()),
        d_model=TEXT_WIDTH,
        d_kv=TEXT_WIDTH // 4,
        d_ff=2 * TEXT_WIDTH,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=SPECIAL.index("<pad>"),
        eos_token_id=SPECIAL.index("<eos>"),
    )
    return T5EncoderModel(config)


def build_flux_transformer(size: Size = SHIPPED) -> FluxTransformer2DModel:
    """FLUX transformer of two double and five single blocks, eight heads of 32 (10 M parameters)."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=size.blocks[0],
        num_single_layers=size.blocks[1],
        attention_head_dim=HEAD,
        num_attention_heads=size.heads,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(4, 14, 14),
    )


def build_unet(sample_size: int, size: Size = SHIPPED) -> UNet2DConditionModel:
    """UNet with self-attention at full and half latent resolution and in its middle (9.5 M parameters)."""
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=size.unet,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(n // HEAD for n in size.unet),  # diffusers reads it as the number of heads
        norm_num_groups=16,
    )


def build_flux(size: Size = SHIPPED) -> FluxPipeline:
    """An untrained `tiny-flux`: rectified flow with joint attention over caption and image tokens."""
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=build_autoencoder(size),
        text_encoder=build_clip(),
        tokenizer=build_tokenizer(),
        text_encoder_2=build_t5(),
        tokenizer_2=build_tokenizer(),
        transformer=build_flux_transformer(size),
    )


def build_stable_diffusion(resolution: int, size: Size = SHIPPED) -> StableDiffusionPipeline:
    """An untrained `tiny-sd`: Stable Diffusion's schedule, v-prediction, no safety checker."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=build_autoencoder(size),
        text_encoder=build_clip(),
        tokenizer=build_tokenizer(),
        unet=build_unet(resolution // PIXELS_PER_LATENT, size),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_pipeline(name: str, resolution: int, size: Size = SHIPPED) -> DiffusionPipeline:
    """The untrained pipeline of that name for square images of `resolution` pixels."""
    builders = {
        "tiny-flux": lambda: build_flux(size),
        "tiny-sd": lambda: build_stable_diffusion(resolution, size),
    }
    if name not in builders:
        raise ValueError(f"unknown embedded model {name!r}; expected one of {', '.join(builders)}")
    pipe = builders[name]()
    set_resolution(pipe, resolution)
    return pipe


def set_resolution(pipe: DiffusionPipeline, resolution: int) -> None:
    """Make square images of `resolution` pixels the pipeline's default; FLUX's own would be 512 px here."""
    pipe.default_sample_size = resolution // PIXELS_PER_LATENT
    if isinstance(pipe, StableDiffusionPipeline):  # which takes its default from there when it is loaded
        pipe.unet.register_to_config(sample_size=pipe.default_sample_size)
