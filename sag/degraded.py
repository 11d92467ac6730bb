"""The extra pass: what a denoiser predicts once its most attended tokens are blurred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sag.call import DenoiserCall
from sag.degrade import blur_tokens
from sag.mask import MASKS, score_image
from sag.noise import NoiseLevel, SamplingStep, noise_level
from sag.predict import predict, renoise
from tokenrank_guidance.capture import AttentionTap

if TYPE_CHECKING:
    from sag.guidance import SelfAttentionGuidance


@dataclass(frozen=True)
class GuidedStep:
    """What guidance looked at in one denoiser call: the token scores (mean 1) and which tokens it blurred.

    `mask` is boolean where guidance takes hard masks, and holds weights in [0, 1] where it takes soft ones.
    """

    number: int
    timestep: float
    score: Float[Tensor, "batch h w"]
    mask: Bool[Tensor, "batch h w"] | Float[Tensor, "batch h w"]


class DegradedPass:
    """Calls a denoiser again on its degraded input; `busy` meanwhile, so that hooks leave this call be."""

    def __init__(self, guidance: SelfAttentionGuidance, tap: AttentionTap) -> None:
        self.guidance, self.tap = guidance, tap
        self.busy = False

    def shift(
        self, call: DenoiserCall, step: SamplingStep, scheduler: Any
    ) -> tuple[Float[Tensor, "rows *latent"], GuidedStep]:
        """s·(ε − ε̂) of the rows that guidance looks at, by what the tap recorded during `call`."""
        records = [record.select(call.rows) for record in self.tap.pop()]
        score = score_image(records, self.guidance.score)
        mask = MASKS[self.guidance.mask](score, self.guidance.threshold)
        blurred = self._repredict(call, self._degrade(call, mask, noise_level(scheduler, step)))
        shift = self.guidance.sag_scale * (call.latent(call.prediction)[call.rows] - blurred)
        return shift, GuidedStep(step.number, step.timestep, score, mask)

    def _degrade(
        self,
        call: DenoiserCall,
        mask: Bool[Tensor, "rows h w"] | Float[Tensor, "rows h w"],
        level: NoiseLevel,
    ) -> Float[Tensor, "rows *latent"]:
        """The input again, with the masked tokens of its clean part blurred; in float32 or better."""
        sample = call.latent(call.sample)[call.rows]
        prediction = call.latent(call.prediction)[call.rows]
        dtype = torch.promote_types(sample.dtype, torch.float32)
        clean, noise = predict(sample.to(dtype), prediction.to(dtype), level)
        size, sigma = self.guidance.blur_kernel, self.guidance.blur_sigma
        grid = (mask.shape[-2], mask.shape[-1])
        clean = call.family.edit(clean, grid, lambda image: blur_tokens(image, mask, size, sigma))
        return renoise(clean, noise, level)

    def _repredict(
        self, call: DenoiserCall, degraded: Float[Tensor, "rows *latent"]
    ) -> Float[Tensor, "rows *latent"]:
        """The denoiser again, without guiding or recording this call."""
        self.busy = True
        try:
            with self.tap.paused():
                return call.repredict(degraded)
        finally:
            self.busy = False
