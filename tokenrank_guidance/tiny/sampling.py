"""How each kind of embedded pipeline is called: one place for the arguments that differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline
from PIL import Image


def guidance_arguments(pipe: DiffusionPipeline, scale: float, count: int) -> dict[str, object]:
    """Arguments that switch classifier-free guidance of `scale` on: FLUX names it `true_cfg_scale`."""
    if type(pipe).__name__.startswith("Flux"):
        return {"true_cfg_scale": scale, "negative_prompt": [""] * count} if scale > 1 else {}
    return {"guidance_scale": scale}


def seeded(count: int, seed: int) -> list[torch.Generator]:
    """One generator per image, seeded seed, seed + 1, …: an image does not depend on its batch."""
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def sample_images(
    pipe: DiffusionPipeline, prompts: Sequence[str], seed: int, *, scale: float = 4.0, steps: int = 24
) -> list[Image.Image]:
    """One image per prompt at the pipeline's own size, silently, from the seeds seed, seed + 1, …"""
    pipe.set_progress_bar_config(disable=True)
    arguments = guidance_arguments(pipe, scale, len(prompts))
    generators = seeded(len(prompts), seed)
    return pipe(list(prompts), num_inference_steps=steps, generator=generators, **arguments).images
