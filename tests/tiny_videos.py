"""Tiny video transformers, with the VAEs that they need: 5 frames are 3 of latents, of 8×8 tokens each.

Seeding is the caller's affair. Prompts are embeddings, so there are no text encoders.
"""

from typing import Any

import diffusers as d
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

WIDTH = 24  # of a head: rotary embeddings share it out among three axes


def wan_vae() -> d.AutoencoderKLWan:
    return d.AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_temporal=2,
        scale_factor_spatial=2,
    )


def wan_vae_of_quarters() -> d.AutoencoderKLWan:
    """As those that are published, it halves frames twice."""
    return d.AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_temporal=4,
        scale_factor_spatial=4,
    )


WAN: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": WIDTH,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 3,
    "rope_max_seq_len": 32,
}


SEEING = {"image_dim": 16, "added_kv_proj_dim": 2 * WIDTH}


def wan(channels: int = 4, **options: Any) -> d.WanTransformer3DModel:
    return d.WanTransformer3DModel(in_channels=channels, **WAN, **options)


def wan_vace() -> d.WanVACETransformer3DModel:
    """Its control holds what is kept, what is changed, and the pixels of the mask."""
    return d.WanVACETransformer3DModel(in_channels=4, vace_layers=[0, 2], vace_in_channels=12, **WAN)


def wan_animate() -> d.WanAnimateTransformer3DModel:
    return d.WanAnimateTransformer3DModel(
        in_channels=12,
        latent_channels=4,
        **SEEING,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=8,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=3,
        **WAN,
    )


def chronoedit() -> d.ChronoEditTransformer3DModel:
    return d.ChronoEditTransformer3DModel(in_channels=10, **SEEING, **WAN)


def skyreels(channels: int = 4, **options: Any) -> d.SkyReelsV2Transformer3DModel:
    return d.SkyReelsV2Transformer3DModel(in_channels=channels, **WAN, **options)


def eyes() -> CLIPVisionModel:
    size = {"image_size": 16, "patch_size": 8}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(hidden_size=16, intermediate_size=16, **size, **layers))


def glasses() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def siglip() -> SiglipVisionModel:
    size = {"image_size": 16, "patch_size": 8}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    return SiglipVisionModel(SiglipVisionConfig(hidden_size=16, intermediate_size=16, **size, **layers))


def siglip_processor() -> SiglipImageProcessor:
    return SiglipImageProcessor(size={"height": 16, "width": 16})


def ltx_vae() -> d.AutoencoderKLLTXVideo:
    return d.AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(8, 8),
        down_block_types=("LTXVideoDownBlock3D",) * 2,
        decoder_block_out_channels=(8, 8),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, False),
        decoder_spatio_temporal_scaling=(True, False),
        decoder_inject_noise=(False,) * 3,
        downsample_type=("conv",) * 2,
        upsample_residual=(False,) * 2,
        upsample_factor=(1, 1),
        patch_size=4,
    )


def ltx() -> d.LTXVideoTransformer3DModel:
    return d.LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=WIDTH,
        cross_attention_dim=2 * WIDTH,
        num_layers=3,
        caption_channels=16,
    )


def cogvideox_vae() -> d.AutoencoderKLCogVideoX:
    return d.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8),
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=2,
    )


COGVIDEOX: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "out_channels": 4,
    "time_embed_dim": 8,
    "text_embed_dim": 16,
    "num_layers": 3,
    "sample_width": 16,
    "sample_height": 16,
    "sample_frames": 5,
    "temporal_compression_ratio": 2,
    "max_text_seq_length": 7,
}


def cogvideox(channels: int = 4, **options: Any) -> d.CogVideoXTransformer3DModel:
    """`patch_size_t`: version 1.5 puts frames together, and rotates positions."""
    return d.CogVideoXTransformer3DModel(in_channels=channels, **COGVIDEOX | options)


def hunyuan_video_vae() -> d.AutoencoderKLHunyuanVideo:
    return d.AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 2,
        up_block_types=("HunyuanVideoUpBlock3D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_compression_ratio=2,
        temporal_compression_ratio=4,
    )


def hunyuan_video(channels: int = 4, **options: Any) -> d.HunyuanVideoTransformer3DModel:
    return d.HunyuanVideoTransformer3DModel(
        in_channels=channels,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=WIDTH,
        num_layers=2,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=16,
        rope_axes_dim=(8, 8, 8),
        **options,
    )


def allegro_vae() -> d.AutoencoderKLAllegro:
    return d.AutoencoderKLAllegro(
        block_out_channels=(8,) * 4,
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=2,
    )


def allegro() -> d.AllegroTransformer3DModel:
    return d.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=WIDTH,
        num_layers=3,
        cross_attention_dim=2 * WIDTH,
        caption_channels=16,
        sample_height=16,
        sample_width=16,
        sample_frames=3,
    )


def hunyuan_video_15(letters: int = 16, **options: Any) -> d.HunyuanVideo15Transformer3DModel:
    """Its latents come with a picture's and a mask of one number each."""
    return d.HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=WIDTH,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=letters,
        image_embed_dim=16,
        rope_axes_dim=(8, 8, 8),
        target_size=32,
        **options,
    )


def hunyuan_video_15_vae() -> d.AutoencoderKLHunyuanVideo15:
    return d.AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=2,
    )


def framepack() -> d.HunyuanVideoFramepackTransformer3DModel:
    return d.HunyuanVideoFramepackTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=WIDTH,
        num_layers=2,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=16,
        rope_axes_dim=(8, 8, 8),
        image_condition_type=None,
        has_image_proj=True,
        image_proj_dim=16,
        has_clean_x_embedder=True,
    )


def motif(text: int = 16, **options: Any) -> d.MotifVideoTransformer3DModel:
    """Its latents come with a picture's and a mask of one number each."""
    return d.MotifVideoTransformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=WIDTH,
        num_layers=2,
        num_single_layers=2,
        num_decoder_layers=1,
        text_embed_dim=text,
        rope_axes_dim=(8, 8, 8),
        **options,
    )


def easyanimate(channels: int = 4) -> d.EasyAnimateTransformer3DModel:
    return d.EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=4,
        patch_size=2,
        num_layers=3,
        mmdit_layers=2,
        time_embed_dim=8,
        text_embed_dim=16,
    )


def easyanimate_vae() -> d.AutoencoderKLMagvit:
    return d.AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("SpatialDownBlock3D",)
        + ("SpatialTemporalDownBlock3D",) * 2
        + ("SpatialTemporalDownBlock3D",),
        up_block_types=("SpatialUpBlock3D",)
        + ("SpatialTemporalUpBlock3D",) * 2
        + ("SpatialTemporalUpBlock3D",),
        layers_per_block=1,
        norm_num_groups=2,
    )


def cosmos(channels: int = 5, **options: Any) -> d.CosmosTransformer3DModel:
    """Its latents come with a mask of one number each."""
    return d.CosmosTransformer3DModel(
        in_channels=channels,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        mlp_ratio=2.0,
        text_embed_dim=16,
        adaln_lora_dim=8,
        extra_pos_embed_type=None,
        **{"max_size": (4, 32, 32)} | options,
    )


def mochi(text: int = 16) -> d.MochiTransformer3DModel:
    return d.MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=text,
        time_embed_dim=8,
    )


def mochi_vae() -> d.AutoencoderKLMochi:
    return d.AutoencoderKLMochi(
        latent_channels=4,
        out_channels=3,
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        layers_per_block=(1,) * 5,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def anima_conditioner() -> d.AnimaTextConditioner:
    return d.AnimaTextConditioner(
        source_dim=16,
        target_dim=16,
        model_dim=16,
        num_layers=1,
        num_attention_heads=2,
        target_vocab_size=32,
        min_sequence_length=8,
    )
