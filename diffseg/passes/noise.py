"""How noisy the one pass is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.schedulers import is_flow

STEPS = 1000


@dataclass(frozen=True)
class ImageNoise:
    """A denoiser input alpha·x₀ + sigma·ε, and the `time` it is called with, in the scheduler's timesteps."""

    alpha: float
    sigma: float
    time: float


def image_noise(scheduler: Any, timestep: int, tokens: int) -> ImageNoise:
    """The level of `timestep` of 1,000, in the scheduler's own schedule of training.

    Diffusion: α² = ᾱ_t, σ² = 1 − ᾱ_t, called with t. Rectified flow: u = t/1000 runs through the schedule's
    shift, σ = s·u/(1 + (s − 1)u), called with 1000·σ, and α = 1 − σ; with dynamic shifting s = eᵐ, m linear
    in the number of image `tokens`, as FLUX has it. A scheduler that counts other than 1,000 steps is called
    at the same share of them.
    """
    config = scheduler.config
    total, share = config.get("num_train_timesteps", STEPS), timestep / STEPS
    if is_flow(scheduler):
        sigma = _shifted(share, config, tokens)
        return ImageNoise(1 - sigma, sigma, sigma * total)
    step = int(share * total)
    signal = scheduler.alphas_cumprod[step].item()
    return ImageNoise(math.sqrt(signal), math.sqrt(1 - signal), step)


def noised(
    clean: Float[Tensor, "1 c h w"], noise: ImageNoise, generator: torch.Generator
) -> Float[Tensor, "1 c h w"]:
    """α·x₀ + σ·ε, ε drawn on the CPU in float32, so that a seed means the same everywhere."""
    epsilon = torch.randn(clean.shape, generator=generator).to(clean)
    return noise.alpha * clean + noise.sigma * epsilon


def _shifted(share: float, config: Any, tokens: int) -> float:
    shift = config.get("flow_shift") or config.get("shift") or 1.0
    if config.get("use_dynamic_shifting"):
        first, last = config["base_image_seq_len"], config["max_image_seq_len"]
        slope = (config["max_shift"] - config["base_shift"]) / (last - first)
        shift = config["base_shift"] + slope * (tokens - first)
        shift = math.exp(shift) if config.get("time_shift_type", "exponential") == "exponential" else shift
    return shift * share / (1 + (shift - 1) * share)
