"""The extra pass: what a denoiser predicts once its most attended tokens are blurred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sag.call import DenoiserCall
from sag.contrast import keep_contrast
from sag.degrade import blur_tokens
from sag.families import Grid
from sag.mask import MASKS, score_image
from sag.noise import NoiseLevel, SamplingStep, noise_level
from sag.predict import output_slope, predict, renoise
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
        level = noise_level(scheduler, step)
        grid = (mask.shape[-2], mask.shape[-1])
        clean, noise = _split(call, level)
        blurred = self._repredict(call, renoise(self._blur(call, clean, mask, grid), noise, level))
        shift = self.guidance.sag_scale * (call.latent(call.prediction)[call.rows] - blurred)
        if self.guidance.rescale > 0 and level.sigma > 0:  # at σ = 0, x̂₀ is the input whatever is predicted
            shift = self._rescale(call, shift, clean, grid, level)
        return shift, GuidedStep(step.number, step.timestep, score, mask)

    def _blur(
        self,
        call: DenoiserCall,
        clean: Float[Tensor, "rows *latent"],
        mask: Bool[Tensor, "rows h w"] | Float[Tensor, "rows h w"],
        grid: Grid,
    ) -> Float[Tensor, "rows *latent"]:
        """The clean sample with the masked tokens blurred."""
        size, sigma = self.guidance.blur_kernel, self.guidance.blur_sigma
        return call.family.edit(clean, grid, lambda image: blur_tokens(image, mask, size, sigma))

    def _rescale(
        self,
        call: DenoiserCall,
        shift: Float[Tensor, "rows *latent"],
        clean: Float[Tensor, "rows *latent"],
        grid: Grid,
        level: NoiseLevel,
    ) -> Float[Tensor, "rows *latent"]:
        """The shift to the x̂₀ that it leads to, once that has the unguided one's contrast again."""

        def kept(images: Float[Tensor, "both c h w"]) -> Float[Tensor, "both c h w"]:
            plain, guided = images.chunk(2)
            return torch.cat([plain, keep_contrast(guided, plain, self.guidance.rescale)])

        slope = output_slope(level)
        both = torch.cat([clean, clean + shift.to(clean.dtype) / slope])
        plain, guided = call.family.edit(both, grid, kept).chunk(2)
        return (slope * (guided - plain)).to(shift.dtype)

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


def _split(call: DenoiserCall, level: NoiseLevel) -> tuple[Tensor, Tensor]:
    """(x̂₀, ε̂) of the rows that guidance looks at, in float32 or better."""
    sample = call.latent(call.sample)[call.rows]
    dtype = torch.promote_types(sample.dtype, torch.float32)
    return predict(sample.to(dtype), call.latent(call.prediction)[call.rows].to(dtype), level)
