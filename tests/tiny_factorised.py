"""Tiny denoisers of videos that attend within frames and over time in turn.

Seeding is the caller's affair.
"""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from torch import nn

WIDTH = 16  # of a prompt's word
STAGES: dict[str, Any] = {"block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 16}


def stirred(network: Any) -> Any:
    """Temporal layers end in weights of zero, which would hide whether frames are mixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return network


def motion(channels: int = 4, *, middle: bool = True, **options: Any) -> d.UNetMotionModel:
    """Stable Diffusion's UNet with motion modules, of which the first adapters have none in the middle."""
    unet = d.UNetMotionModel(
        **STAGES,
        in_channels=channels,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=WIDTH,
        num_attention_heads=2,
        norm_num_groups=4,
        motion_num_attention_heads=2,
        use_motion_mid_block=middle,
        **options,
    )
    return stirred(unet)


def motion_xl() -> d.UNetMotionModel:
    return motion(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        use_linear_projection=True,
    )


def controlnet() -> d.ControlNetModel:
    """Its outer convolutions start at zero, too."""
    net = d.ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 8),
    )
    return stirred(net)


def sparse_controlnet() -> d.SparseControlNetModel:
    net = d.SparseControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=4,
        motion_num_attention_heads=2,
    )
    return stirred(net)


def stable_video() -> d.UNetSpatioTemporalConditionModel:
    return d.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=WIDTH,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )


def stable_video_vae() -> d.AutoencoderKLTemporalDecoder:
    return d.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )


VOLUMES: dict[str, Any] = {
    **STAGES,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "cross_attention_dim": WIDTH,
    "norm_num_groups": 4,
}


def text_to_video() -> d.UNet3DConditionModel:
    return stirred(d.UNet3DConditionModel(attention_head_dim=8, **VOLUMES))


def image_to_video() -> d.I2VGenXLUNet:
    return stirred(d.I2VGenXLUNet(attention_head_dim=8, **VOLUMES))


def latte() -> d.LatteTransformer3DModel:
    return d.LatteTransformer3DModel(
        sample_size=16,
        num_layers=3,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=3,
    )
