"""Tiny transformers whose tokens are packed as FLUX's are, or nearly so, and the pipelines over them.

Seeding is the caller's affair. Sides count in pixels; a VAE halves them unless its pipeline counts otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import diffusers as d
import torch
from torch import nn
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen3Config,
    Qwen3Model,
)

from tests import tiny_dits as dits
from tests import tiny_networks as tiny
from tests.tiny_models import sharpen

HEADS = {"attention_head_dim": 16, "num_attention_heads": 2}
STACKS = {"in_channels": 16, "num_layers": 2, "num_single_layers": 2} | HEADS
AXES = {"axes_dims_rope": (4, 6, 6)}
MAX_TOKENS = 77


def flow() -> d.FlowMatchEulerDiscreteScheduler:
    return d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def chroma() -> d.ChromaTransformer2DModel:
    approximator = {"approximator_hidden_dim": 32, "approximator_layers": 1}
    return d.ChromaTransformer2DModel(**STACKS, **AXES, **approximator, joint_attention_dim=32)


def chroma_parts() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": tiny.vae(),
        "text_encoder": tiny.t5(),
        "tokenizer": dits.text_tokenizer(),
        "transformer": chroma(),
    }


def ovis() -> d.OvisImageTransformer2DModel:
    return d.OvisImageTransformer2DModel(**STACKS, **AXES, out_channels=16, joint_attention_dim=16)


def ovis_pipeline() -> d.OvisImagePipeline:
    pipe = d.OvisImagePipeline(
        flow(),
        tiny.vae(),
        Qwen3Model(Qwen3Config(**dits.LANGUAGE, head_dim=8)),
        dits.chat_tokenizer("{{ messages[0].content }}"),
        ovis(),
    )
    pipe.system_prompt, pipe.user_prompt_begin_id = "", 0
    return pipe


def longcat() -> d.LongCatImageTransformer2DModel:
    return d.LongCatImageTransformer2DModel(
        **STACKS | {"in_channels": 64}, **AXES, joint_attention_dim=16, pooled_projection_dim=16
    )


def longcat_pipeline() -> d.LongCatImagePipeline:
    """It takes sixteen channels of latents for granted, and frames a prompt with a page of instructions."""
    words = dits.text_tokenizer()
    pipe = d.LongCatImagePipeline(flow(), tiny.vae(16), dits.qwen_vl(), words, words, longcat())
    pipe.prompt_template_encode_prefix, pipe.prompt_template_encode_suffix = "<", ">"
    pipe.tokenizer_max_length = 16
    return pipe


MARKS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")


class PictureReader:
    """The part of Qwen2-VL's processor that the pipeline asks for: pictures of four patches, one token."""

    def __init__(self) -> None:
        self.image_processor = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28)


def longcat_edit_pipeline() -> d.LongCatImageEditPipeline:
    """It draws a million pixels whatever its picture's size: a latent here is 64 of them a side."""
    words = dits.text_tokenizer()
    words.add_special_tokens({"additional_special_tokens": list(MARKS)})
    start, image, _ = words.convert_tokens_to_ids(list(MARKS))
    config = dits.qwen_vl().config
    config.text_config.vocab_size = len(words)
    config.vision_start_token_id, config.image_token_id = start, image
    config.vision_config.patch_size, config.vision_config.fullatt_block_indexes = 14, [0]
    pipe = d.LongCatImageEditPipeline(
        flow(),
        deep_vae(16, 7),
        Qwen2_5_VLForConditionalGeneration(config),
        words,
        PictureReader(),
        longcat(),
    )
    pipe.prompt_template_encode_prefix = "<" + "".join(MARKS)
    pipe.prompt_template_encode_suffix = ">"
    pipe.tokenizer_max_length = 16
    return pipe


def deep_vae(channels: int, levels: int) -> d.AutoencoderKL:
    return d.AutoencoderKL(
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=1,
        shift_factor=0.1,
    )


def made(build: Callable[[], Any]) -> Any:
    """A pipeline from a fixed seed, whose attention maps are far from uniform."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is deprecated", FutureWarning)  # of diffusers' own parts
        torch.manual_seed(0)
        pipe = build()
    sharpen(pipe.transformer)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe
