"""The pictures that commands are given."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps


def open_picture(path: Path) -> Image.Image:
    """A picture, upright; ValueError for one too large to open, OSError for one that cannot be read."""
    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise OSError(f"cannot read {path} as a picture: {error.strerror or 'no known format'}") from error
