"""Which channels a denoiser takes: the latents', and in inpainting models those of a mask."""

from __future__ import annotations

from typing import Any

from diffseg.sizes import config_of, is_packed, pixels_per_latent
from tokenrank_guidance.pipelines import autoencoder_of

# Their denoiser may take the latents, a mask and the latents of the masked image, in this order; without the
# additional channels the mask is applied between steps.
INPAINTING = frozenset(
    """StableDiffusionInpaintPipeline StableDiffusionXLInpaintPipeline StableDiffusion3InpaintPipeline
    StableDiffusionControlNetInpaintPipeline StableDiffusionXLControlNetInpaintPipeline
    StableDiffusionXLControlNetUnionInpaintPipeline StableDiffusionPAGInpaintPipeline
    StableDiffusionXLPAGInpaintPipeline StableDiffusionControlNetPAGInpaintPipeline""".split()  # noqa: SIM905
)
FILL = "FluxFillPipeline"  # latents, those of the masked image, and the mask's pixels, all in tokens


def latent_channels(pipe: Any) -> int:
    """Channels of what is denoised: the autoencoder's, four times as many in FLUX's tokens; else of RGB."""
    vae = autoencoder_of(pipe)
    channels = 3 if vae is None else vae.config.latent_channels
    return 4 * channels if is_packed(pipe) else channels


def mask_channels(pipe: Any) -> int:
    """Channels of the mask in the denoiser's input; 0 where it takes none."""
    names = {base.__name__ for base in type(pipe).__mro__}
    mask = 4 * pixels_per_latent(pipe) ** 2 if FILL in names else len(names & INPAINTING)
    return mask if config_of(pipe)["in_channels"] == 2 * latent_channels(pipe) + mask else 0
