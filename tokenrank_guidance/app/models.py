"""The models that the explorer can open: pipelines that draw, and vision transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import tokens_of
from tokenrank_guidance.files.hub import CONFIG, PIPELINE, TIMM, first_of, is_timm
from tokenrank_guidance.files.pretrained import load_part, load_timm, load_weights
from tokenrank_guidance.pipelines import Model, load_model
from tokenrank_guidance.tiny.loader import available_models

Inputs = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model by `name`; `network` is what attends. `model` has its pipeline, None of a vision transformer.

    `prepare` gives a vision transformer's inputs of a picture, and the part of the picture that it sees; it
    is `timm`'s, or the vision `tower` of a larger model.
    """

    name: str
    network: nn.Module
    model: Model | None = None
    prepare: Callable[[Image.Image], tuple[Inputs, Image.Image]] | None = None
    timm: bool = False
    tower: bool = False

    @property
    def pipe(self) -> Any:
        """UnsupportedError for a vision transformer, which draws nothing."""
        if self.model is None:
            raise UnsupportedError(
                f"{type(self.network).__name__} is a vision transformer: it has no prompt and draws nothing; "
                "give it a picture, or take a diffusion model"
            )
        return self.model.pipe


def open_model(name: str, device: str, dtype: torch.dtype) -> Opened:
    """An embedded model, a folder's or one of the Hub; ValueError for what cannot be loaded or captured."""
    if name in available_models() or is_pipeline(name):
        model = load_model(name, device, dtype)
        model.pipe.set_progress_bar_config(disable=True)
        opened = Opened(name, denoiser_of(model.pipe), model)
    else:
        opened = (_timm if is_timm(name) else _transformers)(name, device, dtype)
    tokens_of(opened.network)
    return opened


def is_pipeline(name: str) -> bool:
    """Whether a folder or a repository of the Hub holds a pipeline of diffusers.

    What is neither counts as one: loading it says what is wrong with it.
    """
    if not Path(name).is_dir() and (name.startswith(TIMM) or name.count("/") != 1):
        return not name.startswith(TIMM)
    found = first_of(name, (PIPELINE, CONFIG))
    return found is None or found.name == PIPELINE


def _transformers(name: str, device: str, dtype: torch.dtype) -> Opened:
    from transformers import AutoImageProcessor, AutoModel

    processor = load_part(AutoImageProcessor, name, use_fast=False)
    whole = load_weights(AutoModel, name, dtype=dtype).eval().to(device)
    network = getattr(whole, "vision_model", whole)

    def prepare(picture: Image.Image) -> tuple[Inputs, Image.Image]:
        inputs = dict(processor(images=picture, return_tensors="pt"))
        if inputs["pixel_values"].ndim != 4:
            raise UnsupportedError(
                f"{type(network).__name__} takes patches, which are not shown as a picture"
            )
        seen = _seen(inputs["pixel_values"][0], processor.image_mean, processor.image_std)
        return {name: value.to(device) for name, value in inputs.items()}, seen

    return Opened(name, network, prepare=prepare, tower=network is not whole)


def _timm(name: str, device: str, dtype: torch.dtype) -> Opened:
    import timm.data

    network = load_timm(name).eval().to(device, dtype)
    settings = timm.data.resolve_model_data_config(network)
    transform: Any = timm.data.create_transform(**settings)

    def prepare(picture: Image.Image) -> tuple[Inputs, Image.Image]:
        pixels = transform(picture)
        return {"x": pixels[None].to(device, dtype)}, _seen(pixels, settings["mean"], settings["std"])

    return Opened(name, network, prepare=prepare, timm=True)


def _seen(pixels: torch.Tensor, mean: Any, std: Any) -> Image.Image:
    """The picture of normalised pixels (3, h, w)."""
    mean, std = (torch.tensor(one, dtype=torch.float32).view(3, 1, 1) for one in (mean, std))
    values = (pixels.float() * std + mean).clamp(0, 1)
    return Image.fromarray((255 * values).round().to(torch.uint8).permute(1, 2, 0).numpy())
