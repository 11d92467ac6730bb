"""The extra pass: what a denoiser predicts once its most attended tokens are blurred."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sag.angles import rectified
from sag.caches import OwnCaches
from sag.call import DenoiserCall
from sag.contrast import keep_contrast
from sag.degrade import blur_tokens, mask_of_frames
from sag.gradient_pass import GradientPass
from sag.mask import MASKS, score_image
from sag.noise import NoiseLevel, SamplingStep, noise_level
from sag.predict import output_slope, predict, renoise
from sag.scorers import reads_gradients
from sag.settings import GuidanceSettings
from tokenrank_guidance.brief import brief
from tokenrank_guidance.capture import AttentionTap, unwatched
from tokenrank_guidance.errors import CaptureError, UnsupportedError
from tokenrank_guidance.families.tokens import Grid
from tokenrank_guidance.markov import DeferredChecks, deferred_checks
from tokenrank_guidance.markov.precision import capable, full_precision


@dataclass(frozen=True, eq=False)
class GuidedStep:
    """What guidance looked at in one denoiser call: the token scores (mean 1) and which tokens it blurred.

    `mask` is boolean where guidance takes hard masks, and holds weights in [0, 1] where it takes soft ones.
    Both are (batch, h, w), or (batch, t, h, w) for videos. `noise_alone`: the input had no image in it yet,
    so that nothing could be blurred, and no extra pass was needed.
    """

    number: int
    timestep: float
    score: Float[Tensor, "batch *grid"]
    mask: Bool[Tensor, "batch *grid"] | Float[Tensor, "batch *grid"]
    noise_alone: bool = False

    def __repr__(self) -> str:
        return brief(self)


class DegradedPass:
    """Calls a denoiser again on its degraded input; no hook of this project and no cache sees this call."""

    def __init__(self, settings: GuidanceSettings, tap: AttentionTap) -> None:
        self.settings, self.tap = settings, tap
        self._gradients = GradientPass(tap) if reads_gradients(settings.ranker) else None
        self._caches: OwnCaches | None = None
        self._score: Float[Tensor, "images *grid"] | None = None
        self._unsettled: _Unsettled | None = None

    def begin(self) -> None:
        """Forget the last run."""
        self._caches = self._score = self._unsettled = None

    def shift(
        self, call: DenoiserCall, step: SamplingStep, scheduler: Any
    ) -> tuple[Float[Tensor, "images *latent"], GuidedStep]:
        """s·(ε − ε̂) of the rows that guidance looks at, by what the tap recorded during `call`."""
        if self._caches is None:
            self._caches = OwnCaches(call.module)
        if self._caches and self._gradients is not None:
            raise UnsupportedError(
                f"{self._caches.names} spares layers that a scorer of gradients goes back through: disable "
                "it, or take another scorer"
            )
        if call.parts.count > 1:
            self._caches.refuse_halves()
        score = self._score = self._scored(call, step)
        mask = MASKS[self.settings.mask](score, self.settings.threshold)
        level = noise_level(scheduler, step)
        if call.angles:
            level = rectified(level)
        if call.predicts:
            level = replace(level, prediction=call.predicts)
        grid = tuple(mask.shape[1:])
        held = _held_tokens(call, grid)
        mask = mask if held is None else torch.where(held, torch.zeros_like(mask), mask)
        clean, noise = _split(call, level)
        seen = GuidedStep(step.number, step.timestep, score, mask, level.noise_alone)
        if level.noise_alone and not self._caches:
            return torch.zeros_like(call.prediction), seen
        degraded = renoise(self._blur(call, clean, mask, grid), noise, level)
        with unwatched(), self._caches.in_use():
            blurred = call.repredict(call.drawn(degraded, call.latents.to(degraded.dtype)))
        if level.noise_alone:  # the pass was for caches alone, which count steps as the pipeline's do
            return torch.zeros_like(call.prediction), seen
        shift = self.settings.sag_scale * (call.prediction - blurred)
        shift = call.drawn(shift, torch.zeros_like(shift))
        if (
            self.settings.keep_contrast > 0 and level.sigma > 0
        ):  # at σ = 0, x̂₀ is the input whatever is predicted
            shift = self._keep_contrast(call, shift, clean, grid, level)
            shift = call.drawn(shift, torch.zeros_like(shift))
        return shift, seen

    def _scored(self, call: DenoiserCall, step: SamplingStep) -> Float[Tensor, "images *grid"]:
        """Scores of the call's tokens; of the last call that ran the layers, where a cache spared them.

        Raises ValueError for latents that are not finite, which no scorer can rank. On a GPU it does so in
        the next step, but in a run's first and last at once, and the host does not wait for the values.
        """
        if self._unsettled is not None:
            self._unsettled.settle()
        try:
            with deferred_checks() as checks:
                records = [record.images(call.rows) for record in self.tap.pop()]
                if self._gradients is not None:
                    records = self._gradients.of(call)
                with full_precision(call.raw.device):
                    score = score_image(records, self.settings.ranker)
        except CaptureError as error:
            if not self._caches:
                raise
            if self._score is None:
                raise CaptureError(
                    f"{self._caches.names} spared the layers to rank tokens by before guidance saw them: "
                    "guide from the first step, or, after a run that was stopped, enable the cache anew"
                ) from error
            return self._score
        except ValueError as error:
            if bool(call.sample.isfinite().all()):
                raise
            raise _not_finite(step) from error
        checks.fetch()
        self._unsettled = _Unsettled(checks, call.sample, step) if checks else None
        at_once = self._score is None or self.settings.renews_no_more(step.number, step.total)
        if self._unsettled is not None and at_once:
            self._unsettled.settle()
        return score

    def _blur(
        self,
        call: DenoiserCall,
        clean: Float[Tensor, "images *latent"],
        mask: Bool[Tensor, "images *grid"] | Float[Tensor, "images *grid"],
        grid: Grid,
    ) -> Float[Tensor, "images *latent"]:
        """The clean sample with the masked tokens blurred."""
        size, sigma = self.settings.blur_kernel, self.settings.blur_sigma

        def blurred(images: Float[Tensor, "frames c h w"]) -> Float[Tensor, "frames c h w"]:
            return blur_tokens(images, mask_of_frames(mask, len(images)), size, sigma)

        return call.calling.edit(clean, grid, blurred)

    def _keep_contrast(
        self,
        call: DenoiserCall,
        shift: Float[Tensor, "images *latent"],
        clean: Float[Tensor, "images *latent"],
        grid: Grid,
        level: NoiseLevel,
    ) -> Float[Tensor, "images *latent"]:
        """The shift to the x̂₀ that it leads to, once that has the unguided one's contrast again."""

        def kept(images: Float[Tensor, "both c h w"]) -> Float[Tensor, "both c h w"]:
            plain, guided = images.chunk(2)
            return torch.cat([plain, keep_contrast(guided, plain, self.settings.keep_contrast)])

        slope = output_slope(level)
        both = torch.cat([clean, clean + shift.to(clean.dtype) / slope])
        plain, guided = call.calling.edit(both, grid, kept).chunk(2)
        return (slope * (guided - plain)).to(shift.dtype)


@dataclass(frozen=True)
class _Unsettled:
    """Checks of a step that are still to be read."""

    checks: DeferredChecks
    sample: Float[Tensor, "batch *in"]
    step: SamplingStep

    def settle(self) -> None:
        try:
            self.checks.settle()
        except ValueError as error:
            if bool(self.sample.isfinite().all()):
                raise
            raise _not_finite(self.step) from error


def _not_finite(step: SamplingStep) -> ValueError:
    return ValueError(
        f"the latents are not finite at step {step.number + 1} of {step.total} (timestep "
        f"{step.timestep:g}), usually by overflow in float16: use bfloat16, or a VAE made for "
        "float16 where a picture is encoded"
    )


def _held_tokens(call: DenoiserCall, grid: Grid) -> Bool[Tensor, "images *grid"] | None:
    """The tokens that hold a latent which is given and not drawn; None where all are drawn."""
    held, seen = call.held, []
    if held is None:
        return None
    call.calling.edit(held.float(), grid, lambda images: seen.append(images) or images)
    frames = seen[0].unflatten(0, (len(held), -1)).amax(2)
    volume = (1,) * (3 - len(grid)) + grid
    pooled = F.adaptive_max_pool3d(frames.to(capable(held.device)).unsqueeze(1), volume)
    return (pooled > 0).view(len(held), *grid).to(held.device)


def _split(call: DenoiserCall, level: NoiseLevel) -> tuple[Tensor, Tensor]:
    """(x̂₀, ε̂) of the rows that guidance looks at, in float32 or better."""
    dtype = torch.promote_types(call.latents.dtype, torch.float32)
    return predict(call.latents.to(dtype), call.prediction.to(dtype), level)
