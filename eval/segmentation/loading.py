"""The model whose attention is the chain."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffseg.passes.checks import check_pipeline
from diffseg.settings import Settings
from eval.models import is_pipeline, open_pipeline
from eval.patches import patch_side
from eval.preprocess import of_processor, of_timm
from eval.segmentation.attention import Attention, PipeAttention, VitAttention
from eval.segmentation.options import SegmentationOptions, refuse_noise
from tokenrank_guidance.devices import DTYPES, warn_of_slow_numbers
from tokenrank_guidance.files.hub import is_timm
from tokenrank_guidance.files.pretrained import load_part, load_timm, load_weights
from tokenrank_guidance.memory import check_square
from tokenrank_guidance.quiet import quiet_libraries

EMBEDDED_RESOLUTION = 256  # twice their own size, as of tokenrank segment
VIT_RESOLUTION = 448  # twice what most were trained at: 28×28 patches of 16


def load_attention(asked: SegmentationOptions, device: str) -> Attention:
    """The pipeline or vision transformer that was asked for, at its own resolution if none is given.

    Raises ValueError or OSError for a model that is not there, UnsupportedError for one that has no attention
    to take.
    """
    settings = asked.settings
    if not is_pipeline(asked.model):
        refuse_noise(asked)
        return load_vit(asked.model, device, asked.dtype, _at(settings, VIT_RESOLUTION))
    model = open_pipeline(asked.model, device, asked.dtype)
    check_pipeline(model.pipe)
    return PipeAttention(model.pipe, _at(settings, EMBEDDED_RESOLUTION) if model.embedded else settings)


def _at(settings: Settings, resolution: int) -> Settings:
    return settings if settings.resolution is not None else replace(settings, resolution=resolution)


def load_vit(name: str, device: str, dtype: str, settings: Settings) -> VitAttention:
    """A vision transformer of transformers or, `timm/NAME`, of timm; errors as above."""
    numbers = DTYPES[dtype]
    warn_of_slow_numbers(numbers, device)
    check_square(settings.resolution, device)
    with quiet_libraries():
        load = _timm if is_timm(name) else _transformers
        return load(name, settings, device, numbers)


def _transformers(name: str, settings: Settings, device: str, dtype: torch.dtype) -> VitAttention:
    from transformers import AutoImageProcessor, AutoModel

    whole = load_weights(AutoModel, name, dtype=dtype)
    processor = of_processor(load_part(AutoImageProcessor, name, use_fast=False))
    model: Any = getattr(whole, "vision_model", whole).eval().to(device)
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None  # drawn at random where a classifier's checkpoint has none; attention needs none
    patch = math.lcm(*patch_side(model))
    return VitAttention(model, _calling(model), patch, tuple(processor.mean), tuple(processor.std), settings)


def _timm(name: str, settings: Settings, device: str, dtype: torch.dtype) -> VitAttention:
    model: Any = load_timm(name, dynamic_img_size=True, num_classes=0)
    model = model.eval().to(device, dtype)
    processor = of_timm(model)
    patch = math.lcm(*patch_side(model))
    return VitAttention(model, model, patch, tuple(processor.mean), tuple(processor.std), settings)


def _calling(model: Any) -> Callable[[Tensor], object]:
    """Ask for interpolated positions where the model does not interpolate them unasked, as DINOv2 does."""
    if "interpolate_pos_encoding" in inspect.signature(type(model).forward).parameters:
        return partial(model, interpolate_pos_encoding=True)
    return model
