"""What makes guidance right, checked while sampling: the shift comes out of the pipeline as it went in."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
import torch.autograd.forward_ad as forward_ad
from jaxtyping import Float
from torch import Tensor

from sag.agreement import Mark, Step
from sag.angles import denoisers
from sag.call import DenoiserCall
from sag.caller import Caller
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import guidable

STEPPED = ("model_output", "timestep", "sample")
RESCALES = ("guidance_rescale", "cfg_normalization", "enable_cfg_renorm", "normalize")
NOT_GIVEN = "what its denoiser was given, where guidance edits it, is not the sample that its scheduler steps"
NOT_COMBINED = (
    "what its scheduler is given is no combination of the denoiser's outputs with weights that sum to 1"
)
NOT_FOUND = (
    "least squares find no weights that sum to 1 that make what its scheduler is given of the "
    "denoiser's outputs; weights that differ from value to value are found outside torch.inference_mode alone"
)


class Contract:
    """Checks one step of a pipeline: what its scheduler steps is guided by exactly what was added.

    The scheduler is given f(ε₁, …, ε_k), f being whatever the pipeline makes of the outputs of one step. All
    rows of an image got the same shift δ, so f must satisfy f(ε₁ + δ, …, ε_k + δ) = f(ε₁, …, ε_k) + δ, as
    every affine combination whose weights sum to 1 does: then ∂f in the direction (t, …, t) is t. Outputs are
    dual numbers (forward-mode differentiation) from the denoiser to the scheduler, which costs no call; where
    there is none (inference mode), least squares find the weights. And what the denoiser was given, in the
    channels that were degraded, must be the scheduler's sample, scaled as the scheduler does.

    Where the scheduler is given something else made of the outputs (the flow, of clean images), that must
    move as all outputs do, times one number; least squares do not look then.

    Neither holds in general for the pipeline's rescaling of all guidance (`guidance_rescale`), of which this
    guidance is then a part; there only the input is checked.
    """

    def __init__(self) -> None:
        self.done = False
        self._marks: list[Mark] = []
        self._level: int | None = None
        self._scheduler: Any = None
        self._before: Callable[..., Any] | None = None
        self._name = ""
        self._rescaled = self._angles = False

    @property
    def open(self) -> bool:
        """Whether outputs were marked that the scheduler has not been given yet."""
        return self._scheduler is not None

    def passed(self, sample: Tensor) -> bool:
        """Whether a denoiser's input was made of the marked outputs already, and not by the scheduler."""
        return self._level is not None and forward_ad.unpack_dual(sample).tangent is not None

    def mark(
        self, call: DenoiserCall, guided: Float[Tensor, "batch *out"], place: int, caller: Caller
    ) -> Float[Tensor, "batch *out"]:
        """The guided output, watched until the scheduler is given it; `place` numbers a step's latents."""
        if self._scheduler is None:
            self._watch(caller)
        same = next((mark for mark in self._marks if mark.place == place), None)
        direction = call.prediction if same is None else same.direction
        self._rescaled = self._rescaled or _rescales(caller, call)
        outputs = [call.signed(part) for part in call.parts.split(call.outgoing(guided))]
        inputs = call.parts.split(call.incoming(call.sample))
        habits = guidable(caller.pipe)
        stepped, sign = partial(habits.stepped, call.module, call.inputs), -1 if habits.negates else 1
        self._marks.append(Mark(place, call, inputs, outputs, direction, stepped, sign, call.held))
        if self._level is None:
            return guided
        tangent = torch.zeros_like(guided)
        call.outgoing(tangent).copy_(call.parts.spread(call.signed(direction)))
        # forward_ad.make_dual would first compile decompositions of losses, for half a second
        return torch._VF._make_dual(guided, tangent, level=self._level)

    def close(self) -> None:
        """Take everything off, checked or not."""
        if self._level is not None:
            forward_ad.exit_dual_level(level=self._level)
            self._level = None
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            if self._before is None:
                del scheduler.step
            else:
                scheduler.step = self._before
        self._marks = []

    def give_up(self) -> None:
        """The pipeline went on without its scheduler's `step`: say once that nothing can be checked."""
        self.close()
        self.done = True
        warnings.warn(
            f"{self._name} does not step by scheduler.step, so it cannot be checked that guidance comes out "
            "of it as it went in",
            UserWarning,
            stacklevel=2,
        )

    def _watch(self, caller: Caller) -> None:
        self._name, self._angles = type(caller.pipe).__name__, guidable(caller.pipe).angles
        # Without a step to end at, dual numbers would go on into networks that know none.
        if caller.steps and not torch.is_inference_mode_enabled() and forward_ad._current_level < 0:
            self._level = forward_ad.enter_dual_level()
        scheduler = self._scheduler = caller.pipe.scheduler
        self._before, step = vars(scheduler).get("step"), scheduler.step
        names = list(inspect.signature(type(scheduler).step).parameters)[1:]

        def checked(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(names, args, strict=False)) | kwargs
            plain = self._check(*(given.get(name) for name in STEPPED))
            if "model_output" in kwargs:
                return step(*args, **kwargs | {"model_output": plain})
            return step(plain, *args[1:], **kwargs)

        scheduler.step = checked

    def _check(self, model_output: Any, timestep: Any, sample: Any) -> Any:
        """The model output without its tangent; UnsupportedError where the pipeline breaks the contract."""
        step, scheduler, self.done = Step(self._marks), self._scheduler, True
        tangent = None
        try:
            if not isinstance(model_output, Tensor) or not isinstance(sample, Tensor):
                self._refuse(f"its scheduler is given {type(model_output).__name__}, no tensor")
            output, plain = model_output, model_output
            if self._angles:
                output, sample = denoisers(output, sample, timestep, scheduler.config.sigma_data)
            if self._level is not None:
                plain = forward_ad.unpack_dual(model_output).primal.detach()
                output, tangent = forward_ad.unpack_dual(output)
        finally:
            self.close()
        scales = hasattr(scheduler, "scale_model_input")
        if not step.was_given(scheduler.scale_model_input(sample, timestep) if scales else sample):
            self._refuse(NOT_GIVEN)
        if self._rescaled and step.columns > 1:  # of one output alone there is nothing to rescale
            return plain
        if tangent is None:
            if not step.converted and not step.combines(output):
                self._refuse(NOT_FOUND)
        elif not step.moved(tangent):
            self._refuse(
                f"{NOT_COMBINED}: of what is added to all of them, {step.share(tangent):.3g} comes out"
            )
        return plain

    def _refuse(self, why: str) -> NoReturn:
        raise UnsupportedError(f"cannot guide {self._name}: {why}")


def _rescales(caller: Caller, call: DenoiserCall) -> bool:
    guider = getattr(caller.pipe, "guider", None)
    settings = (*map(caller.says, RESCALES), getattr(guider, "guidance_rescale", None))
    return call.calling.renormalises or any(map(bool, settings))
