"""Which channels a denoiser takes: the latents', and in inpainting models those of a mask."""

from __future__ import annotations

from typing import Any

from tokenrank_guidance.components import autoencoder_of, config_of, pixels_per_latent
from tokenrank_guidance.families.registry import habits_of, packing_of


def latent_channels(pipe: Any) -> int:
    """Channels of what is denoised: the autoencoder's, of each latent pixel in a token; else of RGB."""
    vae = autoencoder_of(pipe)
    channels = 3 if vae is None else vae.config.get("latent_channels") or vae.config.z_dim
    return packing_of(pipe) ** 2 * channels


def mask_channels(pipe: Any) -> int:
    """Channels of the mask in the denoiser's input; 0 where it takes none.

    An inpainting pipeline's denoiser may take the latents, a mask and the latents of the masked image, in one
    order or another; without the additional channels the mask is applied between steps.
    """
    numbers = {"": 0, "latents": 1, "pixels": pixels_per_latent(pipe) ** 2}
    mask = packing_of(pipe) ** 2 * numbers[habits_of(pipe).mask]
    return mask if config_of(pipe)["in_channels"] == 2 * latent_channels(pipe) + mask else 0
