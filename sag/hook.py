"""The forward hook that guides a denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sag.angles import angle
from sag.call import Channels, DenoiserCall, Given, Output
from sag.caller import Caller, LastCall, caller_within
from sag.contract import Contract
from sag.degraded import DegradedPass, GuidedStep
from sag.idle import Idle
from sag.noise import SamplingStep, sampling_step, scalar_timestep
from sag.parts import parts_of
from sag.settings import GuidanceSettings
from tokenrank_guidance.capture import AttentionTap, is_unwatched
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.components import compiled_denoiser
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.registry import calling_of, guidable


class GuidanceHook:
    """Adds s·(ε − ε̂) to a denoiser's raw output, ε̂ being its output for a degraded input.

    Classifier-free guidance is affine in the parts of the output, so the same shift added to all of them
    comes out of it unchanged: ε ← ε_cfg + s(ε_u − ε̂_u) (Hong et al. 2023, eq. 25). A later call of the same
    step on the same latents (FLUX's other half, SD3's skipped layers) gets the first one's shift.

    A pipeline may have several denoisers that take turns over the schedule, each with its tap.
    Only calls that belong to a call of `pipe` are guided: other pipelines may share the denoiser. `steps` is
    filled with what was guided, and emptied when a new call begins, which may set its scheduler's timesteps
    anew for each section of a video; `strangers` counts all other calls.
    """

    def __init__(
        self,
        settings: GuidanceSettings,
        pipe: Any,
        taps: Sequence[AttentionTap],
        steps: list[GuidedStep],
    ) -> None:
        _untraced()
        self.settings, self.pipe, self.steps = settings, pipe, steps
        self.taps = {tap.model: tap for tap in taps}
        self.strangers = 0
        self._extras = {tap.model: DegradedPass(settings, tap) for tap in taps}
        self._given: Given | None = None
        self._last_call, self._run = LastCall(), None
        self._contract = Contract()
        self._step: SamplingStep | None = None
        self._idle = Idle(settings)
        self._seen: list[Tensor] = []
        self._shifts: list[Tensor] = []

    def begin(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """The forward pre-hook, before the tap's: keep the inputs, as the call may change them."""
        if is_unwatched():
            return
        own = self._find_caller(module) is not None
        self.strangers += not own
        self.taps[module].muted = not own
        self._given = given = Given.take(args, kwargs) if own else None
        if given is not None and self._contract.open and self._contract.passed(_sample(module, given)):
            self._contract.give_up()

    def __call__(
        self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Output
    ) -> Output | None:
        if is_unwatched() or self._given is None:
            return None
        caller, given, self._given = self._find_caller(module), self._given, None
        assert caller is not None
        inputs, calling = given.named(module), calling_of(module)
        why = calling.refused(module, inputs)
        if why:  # of calls, too, that belong to no step
            raise UnsupportedError(f"{type(caller.pipe).__name__} {why}")
        scheduler = caller.pipe.scheduler
        self._notice_new_run(caller)
        step = sampling_step(scheduler, _timestep(calling, module, inputs, guidable(caller.pipe)))
        self._notice_new_step(step)
        if not self.settings.guides(step.number, step.total):
            self._idle.end(step, self.steps, type(caller.pipe).__name__)
            return None
        call = self._taken_apart(caller, calling, module, given, output)
        images, shift = self._shift(call, step, scheduler)
        self._idle.end(step, self.steps, type(caller.pipe).__name__)
        guided = call.shifted(shift)
        if not self._contract.done:
            guided = self._contract.mark(call, guided, images, caller)
        return call.returned(guided)

    def close(self) -> None:
        """Take off what an interrupted run left."""
        self._contract.close()

    def _find_caller(self, module: nn.Module) -> Caller | None:
        """The pipeline to ask, if this call is part of a call of `pipe`, and of no guided one inside it."""
        hooks = module._forward_hooks.values()
        return caller_within(self.pipe, [hook.pipe for hook in hooks if isinstance(hook, GuidanceHook)])

    def _taken_apart(
        self, caller: Caller, calling: Calling, module: nn.Module, given: Given, output: Output
    ) -> DenoiserCall:
        """The call with its parts and noisy channels; UnsupportedError where it cannot be guided."""
        habits, latents = guidable(caller.pipe), _sample(module, given)
        edits = (edit for setting, edit in habits.edits.items() if caller.says(setting))
        whole = DenoiserCall(
            module,
            replace(calling, edit=next(edits, calling.edit)),
            given,
            output,
            parts_of(caller, calling, len(latents)),
            Channels(0),
            compiled_denoiser(caller.pipe, module),
            angles=habits.angles,
            predicts=habits.predicts,
        )
        channels = channels_of(calling, latents, whole.raw, caller.tensor(habits.sample))
        return replace(whole, channels=Channels(channels, habits.noisy_last))

    def _notice_new_run(self, caller: Caller) -> None:
        """Begin anew with each call and each of its schedules, which is kept: nothing takes its identity."""
        run = caller.tensor("timesteps") if guidable(caller.pipe).copies else caller.pipe.scheduler.timesteps
        scheduled = self._run is not run
        called = scheduled if caller.call is None else self._last_call.ended(caller.call)
        if called:
            self.steps.clear()
        if called or scheduled:
            self._run = run
            self._contract.close()
            self._contract = Contract()
            for extra in self._extras.values():
                extra.begin()
            self._step, self._seen, self._shifts = None, [], []
            self._idle = Idle(self.settings)

    def _notice_new_step(self, step: SamplingStep) -> None:
        if self._step is None or self._step.index != step.index:
            self._step, self._seen = step, []
            if self.steps and self.steps[-1].noise_alone:
                self._shifts = []  # of the whole step: none of its images has anything to add
            self._idle.begin(step)
            if self._contract.open:
                self._contract.give_up()

    def _shift(
        self, call: DenoiserCall, step: SamplingStep, scheduler: Any
    ) -> tuple[int, Float[Tensor, "images *latent"]]:
        """Which of the step's images these are, by their latents, and their s·(ε − ε̂).

        Taken from an earlier call of the step on the same latents, or from the last step that made the extra
        pass, where this one is to make none.
        """
        latents = call.latents
        for place, before in enumerate(self._seen):
            if before.shape == latents.shape and torch.equal(before, latents):
                return place, self._shifts[place]
        place = len(self._seen)
        self._seen.append(latents)
        last = self._shifts[place] if place < len(self._shifts) else None
        reusable = last is not None and last.shape == latents.shape
        if reusable and not self.settings.renews(step.number, step.total):
            return place, self._shifts[place]
        shift, guided = self._extras[call.module].shift(call, step, scheduler)
        self.steps.append(guided)
        self._shifts[place:] = [shift, *self._shifts[place + 1 :]]
        return place, shift


def _untraced() -> None:
    """Have Dynamo leave the hook's call alone: once, and not on import, since that loads Dynamo (2 s)."""
    if not hasattr(GuidanceHook.__call__, "_torchdynamo_disable"):
        GuidanceHook.__call__ = eager(GuidanceHook.__call__)


def _timestep(calling: Calling, module: nn.Module, inputs: Mapping[str, Any], habits: Habits) -> float:
    """The scheduler's timestep of a denoiser's."""
    times = inputs[calling.time] if calling.times is None else calling.times(inputs)
    timestep = scalar_timestep(times, calling.timestep_scale) + calling.timestep_offset
    if habits.angles:
        return angle(timestep)
    config: Any = module.config
    return timestep / (config[calling.timestep_entry] if calling.timestep_entry else 1.0)


def _sample(module: nn.Module, given: Given) -> Float[Tensor, "batch *in"]:
    calling, inputs = calling_of(module), given.named(module)
    return calling.holding.read(inputs[calling.sample], inputs)


def channels_of(calling: Calling, given: Tensor, made: Tensor, latents: Tensor | None = None) -> int:
    """How many channels of an output are the latents': as many as these have, where the pipeline shows them.

    Else those that go in and come out: fewer come out than go in beside a picture, more with learned sigma.
    """
    axis = calling.channel_axis
    if latents is not None and latents.ndim == given.ndim:
        return min(latents.shape[axis], made.shape[axis])
    return min(given.shape[axis], made.shape[axis])
