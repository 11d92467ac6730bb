"""A sampling loop in a dozen lines, whose every habit a test can change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.tiny_models import pipeline

Outputs = Sequence[Tensor]


def text(parts: int) -> Tensor:
    """A condition for each part, the first of which is called unconditional here."""
    return torch.randn(parts, 7, 16, generator=torch.Generator().manual_seed(3))


def classifier_free(outputs: Outputs) -> Tensor:
    unconditional, conditional, *_ = (*outputs, outputs[0])
    return unconditional + 7.5 * (conditional - unconditional)


class Loop:
    """Stable Diffusion's loop over a tiny UNet; it is no diffusers pipeline.

    `combine` makes what the scheduler steps of the parts' outputs, `given` what the denoiser is given of the
    latents, and `call` calls the denoiser. Without `stepping` it does without its scheduler's step.
    """

    def __init__(
        self,
        parts: int = 2,
        combine: Callable[[Outputs], Tensor] = classifier_free,
        given: Callable[[Tensor], Tensor] = lambda latents: latents,
        call: Callable[..., Any] = lambda unet, x, t, states: unet(x, t, encoder_hidden_states=states).sample,
        steps: int = 2,
        stepping: bool = True,
    ) -> None:
        pipe: Any = pipeline("sd")
        self.unet, self.scheduler = pipe.unet, pipe.scheduler
        self.stepping = stepping
        self.parts, self.combine, self.given, self.call, self.count = parts, combine, given, call, steps
        self.do_classifier_free_guidance = parts == 2

    @torch.no_grad()
    def sample(self, images: int = 1) -> Tensor:
        latents = torch.randn(images, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        states = text(self.parts).repeat_interleave(images, 0)
        self.scheduler.set_timesteps(self.count)
        for t in self.scheduler.timesteps:
            batch = torch.cat([self.given(latents)] * self.parts)
            outputs = self.call(self.unet, batch, t, states).chunk(self.parts)
            if self.stepping:
                latents = self.scheduler.step(self.combine(outputs), t, latents).prev_sample
            else:
                latents = latents - 0.1 * self.combine(outputs)
        return latents
