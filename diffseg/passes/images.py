"""Whatever users call an image, as one tensor; and at another size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor

from tokenrank_guidance.files.limits import PIXELS
from tokenrank_guidance.files.pictures import refusing

Size = tuple[int, int]
Rgb = Float[Tensor, "3 h w"]
DEPTHS = {torch.uint8: 255, torch.bool: 1, torch.uint16: 65535, torch.int32: 65535}


def read_images(images: Any) -> tuple[list[Rgb], bool]:
    """Every image as (3, h, w) in [0, 1], and whether a single one was given.

    PIL images of any mode (transparent pixels over white, 16 bits kept); arrays (h, w), (h, w, c) or
    (b, h, w, c); tensors (h, w), (c, h, w) or (b, c, h, w), with 1, 3 or 4 channels, bool, uint8, uint16, or
    floating point in [0, 1]; or a sequence of these. Raises ValueError for anything else, for an image
    without pixels, for one of more than `PIXELS`, and for one that Pillow cannot decode.
    """
    if isinstance(images, Image.Image):
        return [_read(images)], True
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            return [_read(image) for image in images], False
        return [_read(images)], True
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        if not images:
            raise ValueError("images: got an empty sequence, expected at least one image")
        return [_read(image) for image in images], False
    raise ValueError(
        f"image: got {type(images).__name__}, expected a PIL image, an array, a tensor or a list of these"
    )


def resized(image: Rgb, size: Size) -> Rgb:
    """Bilinear, antialiased where it shrinks, still in [0, 1]."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _read(image: Any) -> Rgb:
    if isinstance(image, Image.Image):
        _check_pixels(image.height, image.width)
        return _rgb(_decoded(image))
    if isinstance(image, np.ndarray):
        channels_last = torch.from_numpy(np.array(image, image.dtype.newbyteorder("="), order="C"))
        if channels_last.ndim not in (2, 3):
            raise ValueError(f"image: array of shape {image.shape}, expected (h, w) or (h, w, channels)")
        return _rgb(channels_last.movedim(-1, 0) if channels_last.ndim == 3 else channels_last[None])
    if isinstance(image, Tensor):
        if image.ndim not in (2, 3):
            raise ValueError(
                f"image: tensor of shape {tuple(image.shape)}, expected (h, w) or (channels, h, w)"
            )
        return _rgb(image.detach().cpu() if image.ndim == 3 else image.detach().cpu()[None])
    raise ValueError(f"image: got {type(image).__name__}, expected a PIL image, an array or a tensor")


def _decoded(image: Image.Image) -> Shaped[Tensor, "c h w"]:
    """An opened file is decoded only now, and may be damaged."""
    try:
        with refusing():
            return _from_pillow(image)
    except ValueError as error:
        raise ValueError(f"image: {getattr(image, 'filename', '')} cannot be decoded: {error}") from error


def _from_pillow(image: Image.Image) -> Shaped[Tensor, "c h w"]:
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip to 8
        return torch.from_numpy(np.array(image).astype(np.int32))[None]
    if image.mode == "F":
        return torch.from_numpy(np.array(image))[None]
    alpha = image.has_transparency_data
    return torch.from_numpy(np.array(image.convert("RGBA" if alpha else "RGB"))).movedim(-1, 0)


def _rgb(pixels: Shaped[Tensor, "c h w"]) -> Rgb:
    channels, height, width = pixels.shape
    if channels not in (1, 3, 4):
        raise ValueError(f"image: {channels} channels of {height}×{width}, expected 1, 3 or 4")
    _check_pixels(height, width)
    values = _unit(pixels)
    if channels == 4:
        alpha = values[3:]
        return values[:3] * alpha + (1 - alpha)
    return values.expand(3, -1, -1)


def _unit(pixels: Shaped[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    if not pixels.is_floating_point() and pixels.dtype not in DEPTHS:
        raise ValueError(f"image: {pixels.dtype}, expected bool, uint8, uint16 or floating point in [0, 1]")
    depth = DEPTHS.get(pixels.dtype, 1)
    values = pixels.float() / depth
    low, high = (end.item() for end in values.aminmax())
    if not (low >= 0 and high <= 1):
        depth = DEPTHS.get(pixels.dtype, 1)
        raise ValueError(
            f"image: {pixels.dtype} values in [{low * depth:g}, {high * depth:g}], expected [0, {depth}]"
        )
    return values


def _check_pixels(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"image: {height}×{width} has no pixels")
    PIXELS.check(height * width, f"image: it has {height}×{width} pixels")
