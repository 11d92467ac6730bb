"""One pass of a pipeline's denoiser over an image, for its attention."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.checks import check_pipeline
from diffseg.conditions import Request, denoiser_inputs
from diffseg.images import Rgb, resized, working_size
from diffseg.noise import noise_level, noised
from diffseg.settings import Settings
from diffseg.sizes import is_square, native_resolution, pixels_per_latent, size_multiple
from tokenrank_guidance.pipelines import autoencoder_of, denoiser_of
from tokenrank_guidance.sizes import check_pass


@torch.no_grad()
def denoiser_pass(pipe: Any, image: Rgb, settings: Settings, caption: str = "") -> None:
    """Encode `image` at the working size and run the denoiser on it once; its prediction is not used.

    The latents are the autoencoder's mode, shifted and scaled as the pipeline does it. `caption` is the text
    context, by default the unconditional one. Raises UnsupportedError as `check_pipeline` does.
    """
    check_pipeline(pipe)
    resolution = settings.resolution or native_resolution(pipe)
    multiple = size_multiple(pipe)
    height, width = working_size((image.shape[1], image.shape[2]), resolution, multiple, is_square(pipe))
    check_pass(pipe, height, width)
    clean = _encode(pipe, resized(image, (height, width)))
    packed = multiple if multiple > pixels_per_latent(pipe) else pixels_per_latent(pipe)
    level = noise_level(pipe.scheduler, settings.timestep, height * width // packed**2)
    generator = torch.Generator().manual_seed(settings.seed)
    latents = noised(clean, level, generator) if settings.add_noise else clean
    denoiser = denoiser_of(pipe)
    inputs = denoiser_inputs(Request(pipe, latents, clean, level.time, caption))
    denoiser(**inputs, return_dict=False)


def _encode(pipe: Any, image: Rgb) -> Float[Tensor, "1 c h w"]:
    device = getattr(pipe, "_execution_device", pipe.device)
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
        encoded = vae.encode(pixels.to(vae.dtype))
    finally:
        if wide:
            vae.to(kept)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    shift, scale = vae.config.get("shift_factor") or 0.0, vae.config.get("scaling_factor") or 1.0
    return ((latents - shift) * scale).to(denoiser.dtype)
