"""The parts of a pipeline, of whatever class; nothing here needs diffusers."""

from __future__ import annotations

from typing import Any

from torch import nn

from tokenrank_guidance.errors import UnsupportedError


def denoiser_of(pipe: Any) -> nn.Module:
    """The pipeline's UNet or transformer, out of `torch.compile`'s wrapper; UnsupportedError without one."""
    for name in ("unet", "transformer"):
        module = getattr(pipe, name, None)
        if isinstance(module, nn.Module):
            return getattr(module, "_orig_mod", module)
    raise UnsupportedError(f"{type(pipe).__name__} has neither a unet nor a transformer")


def autoencoder_of(pipe: Any) -> Any | None:
    """The pipeline's autoencoder, None where it denoises pixels."""
    return getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None)
