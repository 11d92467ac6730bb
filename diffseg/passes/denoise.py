"""One pass of a pipeline's denoiser over an image, for its attention."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.passes.channels import mask_channels
from diffseg.passes.checks import check_pipeline
from diffseg.passes.images import Rgb, resized
from diffseg.passes.noise import image_noise, noised
from diffseg.passes.sizes import pass_size, token_side
from diffseg.settings import Settings
from tokenrank_guidance.components import (
    autoencoder_of,
    denoiser_of,
    execution_device,
)
from tokenrank_guidance.families.picture import PicturePass
from tokenrank_guidance.families.registry import picture_of, words_of
from tokenrank_guidance.sizes import check_pass


@torch.no_grad()
def denoiser_pass(pipe: Any, image: Rgb, settings: Settings, caption: str = "") -> None:
    """Encode `image` at the working size and run the denoiser on it once; its prediction is not used.

    The latents are the autoencoder's mode, shifted and scaled as the pipeline does it. `caption` is the text
    context, by default the unconditional one. Raises UnsupportedError as `check_pipeline` does, and for a
    caption where no text is read.
    """
    check_pipeline(pipe)
    if caption:
        words_of(pipe)
    height, width = pass_size(pipe, (image.shape[1], image.shape[2]), settings.resolution)
    check_pass(pipe, height, width)
    clean = _encode(pipe, resized(image, (height, width)))
    token = token_side(pipe)
    noise = image_noise(pipe.scheduler, settings.timestep, height * width // token**2)
    generator = torch.Generator().manual_seed(settings.seed)
    latents = noised(clean, noise, generator) if settings.add_noise else clean
    call = PicturePass(pipe, latents, clean, noise.time, caption, mask_channels(pipe))
    denoiser_of(pipe)(**picture_of(pipe).inputs(call), return_dict=False)


def _encode(pipe: Any, image: Rgb) -> Float[Tensor, "1 c gh gw"]:
    device = execution_device(pipe)
    denoiser: Any = denoiser_of(pipe)
    vae = autoencoder_of(pipe)
    pixels = (2 * image[None] - 1).to(device)
    if vae is None:
        return pixels.to(denoiser.dtype)
    kept = vae.dtype
    wide = kept == torch.float16 and vae.config.get("force_upcast", False)  # SDXL's overflows in float16
    try:
        if wide:
            vae.to(torch.float32)
        encoded = vae.encode(picture_of(pipe).pixels(pixels.to(vae.dtype)))
    finally:
        if wide:
            vae.to(kept)
    name = next(name for name in ("latents", "latent", "latent_dist") if hasattr(encoded, name))
    latents = encoded.latent_dist.mode() if name == "latent_dist" else getattr(encoded, name)
    return picture_of(pipe).latents(vae, latents).to(denoiser.dtype)
