"""The forward hook that guides a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sag.call import DenoiserCall, Output, named_inputs
from sag.degrade import blur_tokens
from sag.families import family_of
from sag.mask import salient, score_image
from sag.noise import NoiseLevel, SamplingStep, noise_level, sampling_step, scalar_timestep
from sag.predict import predict, renoise
from tokenrank_guidance.capture import AttentionTap

if TYPE_CHECKING:
    from sag.guidance import SelfAttentionGuidance


@dataclass(frozen=True)
class GuidedStep:
    """What guidance looked at in one denoiser call: the token scores (mean 1) and which tokens it blurred."""

    number: int
    timestep: float
    score: Float[Tensor, "batch h w"]
    mask: Bool[Tensor, "batch h w"]


class GuidanceHook:
    """Adds s·(ε − ε̂) to a denoiser's raw output, ε̂ being its output for a degraded input.

    Classifier-free guidance is affine in the two halves of the output, so the same shift added to both comes
    out of it unchanged: ε ← ε_cfg + s(ε_u − ε̂_u) (Hong et al. 2023, eq. 25). A later call of the same step on
    the same latents (FLUX's other half, SD3's skipped layers) gets the first one's shift.

    `steps` is filled with what was guided, and emptied when a new run begins.
    """

    def __init__(
        self,
        guidance: SelfAttentionGuidance,
        pipe: Any,
        tap: AttentionTap,
        steps: list[GuidedStep],
    ) -> None:
        self.guidance, self.pipe, self.tap, self.steps = guidance, pipe, tap, steps
        self.family = family_of(tap.model)
        self._busy = False
        self._run: Tensor | None = None
        self._last: tuple[int, Tensor, Tensor] | None = None

    def __call__(
        self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Output
    ) -> Output | None:
        if self._busy:
            return None
        self._notice_new_run()
        inputs = named_inputs(module, args, kwargs)
        timestep = scalar_timestep(inputs["timestep"], self.family.timestep_scale)
        step = sampling_step(self.pipe.scheduler, timestep)
        if not self.guidance.guides(step.number, step.total):
            return None
        doubled = self.family.doubled(self.pipe, module, inputs)
        call = DenoiserCall(module, self.family, inputs, output, doubled)
        return call.shifted(self._shift(call, step))

    def _notice_new_run(self) -> None:
        """Every run sets its timesteps anew; these are kept, so that no later ones take their identity."""
        if self._run is not self.pipe.scheduler.timesteps:
            self._run = self.pipe.scheduler.timesteps
            self._last = None
            self.steps.clear()

    def _shift(self, call: DenoiserCall, step: SamplingStep) -> Float[Tensor, "rows *latent"]:
        """s·(ε − ε̂), taken from the call before if that was the same step's on the same latents."""
        latents = call.sample[call.rows]
        if self._last is not None:
            index, before, shift = self._last
            if index == step.index and before.shape == latents.shape and torch.equal(before, latents):
                return shift
        shift = self._fresh_shift(call, step)
        self._last = (step.index, latents, shift)
        return shift

    def _fresh_shift(self, call: DenoiserCall, step: SamplingStep) -> Float[Tensor, "rows *latent"]:
        records = [record.select(call.rows) for record in self.tap.pop()]
        score = score_image(records, self.guidance.score)
        mask = salient(score, self.guidance.threshold)
        degraded = self._degrade(call, mask, noise_level(self.pipe.scheduler, step))
        blurred = self._repredict(call, degraded)
        self.steps.append(GuidedStep(step.number, step.timestep, score, mask))
        return self.guidance.sag_scale * (call.latent(call.prediction)[call.rows] - blurred)

    def _degrade(
        self, call: DenoiserCall, mask: Bool[Tensor, "rows h w"], level: NoiseLevel
    ) -> Float[Tensor, "rows *latent"]:
        """The input again, with the masked tokens of its clean part blurred; in float32 or better."""
        sample = call.latent(call.sample)[call.rows]
        prediction = call.latent(call.prediction)[call.rows]
        dtype = torch.promote_types(sample.dtype, torch.float32)
        clean, noise = predict(sample.to(dtype), prediction.to(dtype), level)
        size, sigma = self.guidance.blur_kernel, self.guidance.blur_sigma
        grid = (mask.shape[-2], mask.shape[-1])
        clean = self.family.edit(clean, grid, lambda image: blur_tokens(image, mask, size, sigma))
        return renoise(clean, noise, level)

    def _repredict(
        self, call: DenoiserCall, degraded: Float[Tensor, "rows *latent"]
    ) -> Float[Tensor, "rows *latent"]:
        """The denoiser again, without guiding or recording this call."""
        self._busy = True
        try:
            with self.tap.paused():
                return call.repredict(degraded)
        finally:
            self._busy = False
