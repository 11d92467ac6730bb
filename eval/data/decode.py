"""Encoded images and masks to pixels."""

from __future__ import annotations

import io
import warnings

import numpy as np
from jaxtyping import Int
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 2**26  # 8192 × 8192
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
MASKS = ("1", "L", "P", *DEEP_GREY)


def decode_image(data: bytes) -> Image.Image:
    """An upright RGB image of any common encoding.

    EXIF orientation is applied; 16-bit grey is scaled, v/257, not clipped; whatever is transparent lies on
    white; of an animation the first frame is taken. Raises ValueError for data that is no image, is
    truncated, or has more than `MOST_PIXELS` pixels.
    """
    return to_rgb(_upright(data))


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image in any mode: 16-bit scaled, transparency on white."""
    if image.mode in DEEP_GREY:
        return _scaled(np.asarray(image)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; expected 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def decode_mask(data: bytes, size: tuple[int, int]) -> Int[np.ndarray, "h w"]:
    """The class index of each pixel, 255 = ignore, of an image of `size` (width, height).

    A palette's indices are taken, not its colours. Raises ValueError for data that is no image, has several
    channels, or another size.
    """
    mask = _upright(data)
    if mask.mode not in MASKS:
        raise ValueError(f"its mask is {mask.mode}; expected one channel of class indices")
    if mask.size != size:
        raise ValueError(f"its mask is {mask.size[0]}×{mask.size[1]}, the image {size[0]}×{size[1]}")
    return np.asarray(mask).astype(np.int64)


def _upright(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, and images larger than Pillow likes
            image = Image.open(io.BytesIO(data))
            _check_size(image)
            return ImageOps.exif_transpose(image)
    except (ValueError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its text is where in memory the data was
        raise ValueError("it is no image of a known format") from error
    except Exception as error:  # a decoder raises whatever a damaged file makes it stumble over
        raise ValueError(f"{error or type(error).__name__}") from error


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"it has {width}×{height} pixels, more than {MOST_PIXELS}")


def _scaled(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels reach from {values.min()} to {values.max()}; expected 8 or 16 bits")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))
