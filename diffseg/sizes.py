"""Which sizes a pipeline works at, read off its parts' configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tokenrank_guidance.pipelines import autoencoder_of, denoiser_of

SQUARE = ("DiTTransformer2DModel",)  # it puts its patches together as a square, whatever it was given


def config_of(pipe: Any) -> Mapping[str, Any]:
    """The denoiser's configuration."""
    model: Any = denoiser_of(pipe)
    return model.config


def pixels_per_latent(pipe: Any) -> int:
    """How many pixels a side of a latent stands for."""
    vae = autoencoder_of(pipe)
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)


def size_multiple(pipe: Any) -> int:
    """Pixels that sides must be a multiple of: a token of the coarsest layer."""
    config = config_of(pipe)
    blocks = config.get("down_block_types")
    if blocks:
        return pixels_per_latent(pipe) * 2 ** (len(blocks) - 1)
    packed = 2 if is_packed(pipe) else config.get("patch_size", 1)
    return pixels_per_latent(pipe) * packed


def is_packed(pipe: Any) -> bool:
    """FLUX packs 2×2 latent pixels into a token, which its transformer's patch_size of 1 does not tell."""
    return any(base.__name__ == "FluxTransformer2DModel" for base in type(denoiser_of(pipe)).__mro__)


def native_resolution(pipe: Any) -> int:
    """√(pixels) of the images that the pipeline draws when it is not asked for a size."""
    default: Any = getattr(pipe, "default_sample_size", None)
    sample: Any = config_of(pipe).get("sample_size")
    side = default if default is not None else sample
    if side is None:
        raise ValueError(f"{type(pipe).__name__} does not tell its size; pass resolution")
    if not isinstance(side, int):
        side = round(math.sqrt(side[0] * side[1]))
    return side * pixels_per_latent(pipe)


def is_square(pipe: Any) -> bool:
    """Whether the denoiser takes square latents only."""
    return any(base.__name__ in SQUARE for base in type(denoiser_of(pipe)).__mro__)
