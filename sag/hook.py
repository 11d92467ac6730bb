"""The forward hook that guides a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sag.call import DenoiserCall, Output, named_inputs
from sag.degraded import DegradedPass, GuidedStep
from sag.families import family_of
from sag.noise import SamplingStep, sampling_step, scalar_timestep
from tokenrank_guidance.capture import AttentionTap

if TYPE_CHECKING:
    from sag.guidance import SelfAttentionGuidance


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
        self._extra = DegradedPass(guidance, tap)
        self._inputs: dict[str, Any] = {}
        self._run: Tensor | None = None
        self._last: tuple[int, Tensor, Tensor] | None = None

    def begin(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """The forward pre-hook: keep the inputs, as the call may change them."""
        if not self._extra.busy:
            self._inputs = named_inputs(module, args, kwargs)

    def __call__(
        self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Output
    ) -> Output | None:
        if self._extra.busy:
            return None
        self._notice_new_run()
        inputs, self._inputs = self._inputs, {}
        timestep = scalar_timestep(inputs["timestep"], self.family.timestep_scale)
        step = sampling_step(self.pipe.scheduler, timestep + self.family.timestep_offset)
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
        """s·(ε − ε̂), taken from the call before if that was the same step's on the same latents.

        And from the last that made the extra pass, in steps that are to make none.
        """
        latents = call.sample[call.rows]
        if self._last is not None and self._last[1].shape == latents.shape:
            index, before, shift = self._last
            if not self.guidance.renews(step.number, step.total):
                return shift
            if index == step.index and torch.equal(before, latents):
                return shift
        shift, guided = self._extra.shift(call, step, self.pipe.scheduler)
        self.steps.append(guided)
        self._last = (step.index, latents, shift)
        return shift
