"""Encoded pictures to pixels: the one decoder, and the one list of formats."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tokenrank_guidance.files.limits import PIXELS
from tokenrank_guidance.files.reading import read_file

# By Pillow's names. Others that Pillow reads are left out: EPS runs Ghostscript, TGA has no mark.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "DIB": (),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def open_picture(path: Path) -> Image.Image:
    """A file's picture, upright, in its own mode; ValueError that names the file for any other."""
    try:
        return upright(read_file(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot read {path} as a picture: {reason}") from error


def decode_image(data: bytes) -> Image.Image:
    """An upright RGB image of any encoding in `FORMATS`.

    EXIF orientation is applied; 16-bit grey is scaled, v/257, not clipped; whatever is transparent lies on
    white; of an animation the first frame is taken. Raises ValueError for data that is no image, is
    truncated, or has more than `PIXELS`.
    """
    with refusing():
        return to_rgb(upright(data))


def upright(data: bytes) -> Image.Image:
    """The decoded image in its own mode, EXIF orientation applied; ValueError as `decode_image`."""
    with refusing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata, and images larger than Pillow likes
        _let_pillow_open(PIXELS.value)
        image = Image.open(io.BytesIO(data), formats=_known())
        check_pixels(image)
        return ImageOps.exif_transpose(image)


def check_pixels(image: Image.Image) -> None:
    """ValueError for an image without pixels, or of more than `PIXELS`."""
    width, height = image.size
    if width < 1 or height < 1:
        raise ValueError(f"it has {width}×{height} pixels; expected at least one")
    PIXELS.check(width * height, f"it has {width}×{height} pixels")


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


@contextmanager
def refusing() -> Iterator[None]:
    """Whatever Pillow raises in the block, as a ValueError of one line."""
    try:
        yield
    except UnidentifiedImageError as error:  # its text is where in memory the data was
        raise ValueError("it is no image of a known format") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has too many pixels; {PIXELS.how}") from error
    except MemoryError as error:
        raise ValueError("there is not enough memory to decode it") from error
    except Exception as error:  # a decoder raises whatever a damaged file makes it stumble over
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _known() -> list[str]:
    """Those of the formats that this Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _let_pillow_open(limit: int) -> None:
    """Pillow has a limit of its own, larger than the default of `PIXELS`: it gives way to one raised."""
    if Image.MAX_IMAGE_PIXELS is not None and limit > PIXELS.default:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limit)


def _scaled(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels reach from {values.min()} to {values.max()}; expected 8 or 16 bits")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))
