"""From a picture to a classifier's input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

# Where a model's settings do not say how much the picture is larger than its crop: timm's 0.9 for ViTs.
ENLARGED = 248 / 224


@dataclass(frozen=True)
class Preprocessing:
    """Resize until the picture covers `size` times `enlarged`, cut `size` (h, w) from its centre, normalise.

    The filter is bicubic. Pixels are in [0, 1] before `mean` and `std` of each channel are taken.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    enlarged: float = ENLARGED

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of the picture that the model sees."""
        height, width = self.size
        factor = max(round(height * self.enlarged) / image.height, round(width * self.enlarged) / image.width)
        resized = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
        image = image.resize(resized, Image.Resampling.BICUBIC)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        pixels = torch.from_numpy(np.asarray(self.crop(image.convert("RGB")), dtype=np.float32) / 255)
        return ((pixels - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(2, 0, 1)

    def pixels(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images 3 height width"]:
        """Undo the normalisation: pixels in [0, 1]."""
        mean, std = (torch.tensor(side, device=images.device).view(3, 1, 1) for side in (self.mean, self.std))
        return (images.float() * std + mean).clamp(0, 1)


def of_processor(processor: Any) -> Preprocessing:
    """What transformers' image processor says; its own enlargement where it crops, else `ENLARGED`."""
    crop, resize = _sides(getattr(processor, "crop_size", None)), _sides(processor.size)
    crops = getattr(processor, "do_center_crop", False) and crop is not None
    size = crop if crops and crop is not None else resize
    if size is None or resize is None:
        raise ValueError(f"the image processor says nothing of a size: {processor.size}")
    enlarged = min(resize) / min(size) if crops else ENLARGED
    return Preprocessing(size, tuple(processor.image_mean), tuple(processor.image_std), enlarged)


def of_timm(model: nn.Module) -> Preprocessing:
    """What a timm model's own settings say."""
    import timm.data

    config = timm.data.resolve_model_data_config(model)
    enlarged = math.floor(config["input_size"][1] / config["crop_pct"]) / config["input_size"][1]
    return Preprocessing(
        tuple(config["input_size"][1:]), tuple(config["mean"]), tuple(config["std"]), enlarged
    )


def _sides(size: Any) -> tuple[int, int] | None:
    """(h, w) of transformers' ways to write a size; None where it is not one."""
    if size is None:
        return None
    if "height" in size:
        return size["height"], size["width"]
    side = size.get("shortest_edge")
    return None if side is None else (side, side)
