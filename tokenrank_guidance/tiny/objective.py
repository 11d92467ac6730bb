"""What each embedded denoiser is trained to predict, in the words of its own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import FluxPipeline, StableDiffusionPipeline
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn


class Objective(Protocol):
    """The trained modules of a pipeline, by the pipeline's names for them, and their loss.

    `network` is the denoiser among them, as it is called: itself, or a compiled form of it.
    """

    modules: dict[str, nn.Module]
    network: Callable[..., Any]

    def loss(
        self,
        latents: Float[Tensor, "b c h w"],
        captions: Int[Tensor, "m tokens"],
        which: Int[Tensor, " b"],
        draw: Generator,
    ) -> Tensor:
        """Mean loss of a batch whose captions are rows `which` of the tokenised `captions`.

        `draw` is a generator of the latents' device.
        """
        ...


class RectifiedFlow:
    """FLUX: predict n − x from (1 − σ)x + σn with σ logit-normal (Esser et al. 2024, section 3.1)."""

    def __init__(self, pipe: FluxPipeline):
        self.modules = {
            "transformer": pipe.transformer,
            "text_encoder": pipe.text_encoder,
            "text_encoder_2": pipe.text_encoder_2,
        }
        self.network: Callable[..., Any] = pipe.transformer

    def loss(self, latents, captions, which, draw):
        clip, t5 = self.modules["text_encoder"], self.modules["text_encoder_2"]
        pooled = clip(captions).pooler_output[which]
        words = t5(captions).last_hidden_state[which]
        x = FluxPipeline._pack_latents(latents, *latents.shape)
        noise = torch.randn(x.shape, generator=draw, device=x.device)
        sigma = torch.sigmoid(torch.randn(len(x), generator=draw, device=x.device))
        mixed = torch.lerp(x, noise, sigma.view(-1, 1, 1))
        predicted = self.network(
            hidden_states=mixed,
            timestep=sigma,
            encoder_hidden_states=words,
            pooled_projections=pooled,
            img_ids=_image_ids(*latents.shape[-2:], latents.device),
            txt_ids=x.new_zeros(captions.shape[1], 3),
            return_dict=False,
        )[0]
        return F.mse_loss(predicted.float(), noise - x)


@cache
def _image_ids(height: int, width: int, device: torch.device) -> Float[Tensor, "n 3"]:
    """Positions of the image tokens; made on the CPU, so once."""
    return FluxPipeline._prepare_latent_image_ids(1, height // 2, width // 2, device, torch.float32)


class VPrediction:
    """Stable Diffusion: predict v, weighted by min(SNR, 5)/(SNR + 1) (Hang et al. 2023)."""

    def __init__(self, pipe: StableDiffusionPipeline):
        self.modules = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
        self.network: Callable[..., Any] = pipe.unet
        self.scheduler = pipe.scheduler

    def loss(self, latents, captions, which, draw):
        words = self.modules["text_encoder"](captions).last_hidden_state[which]
        noise = torch.randn(latents.shape, generator=draw, device=latents.device)
        steps = self.scheduler.config.num_train_timesteps
        t = torch.randint(steps, (len(latents),), generator=draw, device=latents.device)
        mixed = self.scheduler.add_noise(latents, noise, t)
        predicted = self.network(mixed, t, words, return_dict=False)[0]
        target = self.scheduler.get_velocity(latents, noise, t)
        alpha = self.scheduler.alphas_cumprod.to(latents)[t]
        weight = torch.minimum(alpha, 5 * (1 - alpha))  # min(SNR, 5) / (SNR + 1) with SNR = ᾱ/(1 − ᾱ)
        error = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        return (weight * error).mean() / weight.mean()
