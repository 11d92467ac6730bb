"""Pictures whose segments are known, as files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_squares(folder: Path, count: int) -> Path:
    """Pictures of a bright square on a dark ground, with masks; the third cannot be read."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i in range(count):
        mask = np.zeros((36, 44), dtype=np.uint8)
        mask[8:24, 4 * i : 4 * i + 20] = 1
        pixels = rng.integers(0, 80, (36, 44, 3)) + 150 * mask[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    (folder / "images" / "2.png").write_bytes(b"not a picture")
    return folder
