"""The same guidance as a guider of diffusers' modular pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers import ClassifierFreeGuidance
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sag.call import Channels, DenoiserCall, Given, Output, predicted
from sag.caller import LastCall, caller_within, running_calls
from sag.degraded import DegradedPass, GuidedStep
from sag.guidance import SelfAttentionGuidance
from sag.hook import GuidanceHook, channels_of
from sag.idle import Idle
from sag.noise import SamplingStep, noise_formula, sampling_step
from sag.parts import Parts
from sag.settings import GuidanceSettings, Layers, renamed_rescale
from tokenrank_guidance.capture import AttentionTap, is_unwatched
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.checks import is_number
from tokenrank_guidance.components import denoisers_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.registry import calling_of, guidable

if TYPE_CHECKING:
    from diffusers.guiders.classifier_free_guidance import GuiderOutput

USUAL = GuidanceSettings()
GUIDERS = ("guider", "guider_2")


class TokenRankGuider(ClassifierFreeGuidance):
    """Classifier-free guidance with `SelfAttentionGuidance`, for modular pipelines.

        TokenRankGuider(guidance_scale=5.0, sag_scale=0.75).guide(pipe)

    ε ← CFG(ε_cond + δ, ε_uncond + δ) with δ = s(ε − ε̂) of the pass that the hook looks at in the classic
    pipeline of the same denoiser: the unconditional one where that pipeline makes both in one batch, the
    prompt's where it makes one after the other. The first six arguments are those of diffusers' guider,
    `sag_start` and `sag_stop` are the fractions of the schedule that δ is added in, all others, by keyword,
    those of `SelfAttentionGuidance`. Every argument is saved by `save_pretrained`; the scheduler is not.

    Raises ValueError for values out of range, and for a scorer that is no name: it could not be saved.
    """

    @register_to_config
    def __init__(
        self,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        use_original_formulation: bool = False,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
        *,
        scorer: str = "tokenrank",
        sag_scale: float = USUAL.sag_scale,
        layers: Layers = USUAL.layers,
        damping: float = USUAL.damping,
        head_weights: Literal["mean", "lambda2"] = USUAL.head_weights,
        threshold: float = USUAL.threshold,
        blur_kernel: int = USUAL.blur_kernel,
        blur_sigma: float = USUAL.blur_sigma,
        sag_start: float = USUAL.start,
        sag_stop: float = USUAL.stop,
        every: int = USUAL.every,
        mask: Literal["hard", "soft"] = USUAL.mask,
        reuse: int = USUAL.reuse,
        keep_contrast: float = USUAL.keep_contrast,
        rescale: float | None = None,
    ) -> None:
        _check(guidance_scale, guidance_rescale, use_original_formulation, start, stop, enabled)
        super().__init__(guidance_scale, guidance_rescale, use_original_formulation, start, stop, enabled)
        if not isinstance(scorer, str):
            raise ValueError(f"scorer is {scorer!r}; a guider is saved, so it expects a name")
        if rescale is not None:
            self.register_to_config(keep_contrast=renamed_rescale(rescale, stacklevel=4), rescale=None)
        settings: dict[str, Any] = {field.name: self.config[field.name] for field in fields(GuidanceSettings)}
        settings |= {"start": sag_start, "stop": sag_stop}
        self.guidance = SelfAttentionGuidance(**settings)
        self._scheduler: Any = None
        self._last_call = LastCall()
        self._run: object = None
        self._extra: DegradedPass | None = None
        self._handles: list[RemovableHandle] = []
        self._given: Given | None = None
        self._shift: Float[Tensor, "images *latent"] | None = None
        self._last: Float[Tensor, "images *latent"] | None = None
        self._calling: Calling | None = None
        self._raw: Float[Tensor, "images *out"] | None = None
        self._sign: Float[Tensor, ""] | None = None
        self._steps: list[GuidedStep] = []
        self._idle = Idle(self.guidance)

    def bind(self, scheduler: Any) -> TokenRankGuider:
        """Read noise levels off this scheduler in loops and blocks of one's own: a pipeline's own is read."""
        self._scheduler = scheduler
        return self

    def guide(self, pipe: Any, guider_2: TokenRankGuider | None = None) -> TokenRankGuider:
        """Become the guider of a modular pipeline.

        Where a second denoiser takes over and has a guider of its own (Wan 2.2), that is `guider_2`, or this
        one too.

        Raises UnsupportedError for a pipeline whose blocks take no guider, which would ignore this one, with
        a warning at most, and for a denoiser or scheduler that cannot be guided; ValueError for a `guider_2`
        that the pipeline has no use for.
        """
        taken = [name for name in GUIDERS if name in getattr(pipe, "component_names", ())]
        if not taken:
            raise UnsupportedError(
                f"{type(pipe).__name__} takes no guider: guide it with SelfAttentionGuidance()(pipe)"
            )
        if guider_2 is not None and len(taken) < len(GUIDERS):
            raise ValueError(f"{type(pipe).__name__} takes one guider; got a guider_2 too")
        if guidable(pipe).mixes_more:
            raise UnsupportedError(
                f"{type(pipe).__name__} has guiders that mix more than classifier-free guidance does, which "
                "stay: guide it with SelfAttentionGuidance()(pipe)"
            )
        for denoiser in denoisers_of(pipe):
            calling_of(denoiser)
        noise_formula(getattr(pipe, "scheduler", None))
        guiders = (self, self if guider_2 is None else guider_2)
        for name, guider in zip(taken, guiders, strict=False):
            pipe.update_components(**{name: guider.bind(pipe.scheduler)})
        return self

    @property
    def steps(self) -> list[GuidedStep]:
        """Scores and masks of the last call's extra passes, in order of all sections: a new list."""
        return list(self._steps)

    def disable(self) -> None:
        """Guide no more, classifier-free neither, and take off what an interrupted run left."""
        super().disable()
        self._release()

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Begin a step; UnsupportedError in a pipeline that cannot be guided."""
        super().set_state(step, num_inference_steps, timestep)
        self._release()
        self._shift = None
        running = next(iter(running_calls()), None)
        if running is not None and self.guidance.sag_scale > 0:
            guidable(running.pipe)
            self._scheduler = running.pipe.scheduler
        run = getattr(self._scheduler, "timesteps", None)
        scheduled = step == 0 or run is not self._run  # a second denoiser's guider does not see it begin
        call = None if running is None else running.call
        called = scheduled if call is None else self._last_call.ended(call)
        if called:
            self._steps.clear()
        if called or scheduled:
            self._run = run
            self._last = None
            self._raw = self._sign = None
            self._idle = Idle(self.guidance)
            if self._extra is not None:
                self._extra.begin()

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Watch the step's last pass, unconditional unless it is the only one; or its first, of the prompt.

        Raises RuntimeError without a scheduler, and beside `SelfAttentionGuidance` of the pipeline that runs;
        UnsupportedError for a scheduler that cannot be guided with or an unknown denoiser, and ValueError for
        a layer that does not exist.
        """
        super().prepare_models(denoiser)
        if not self._enabled or self.guidance.sag_scale == 0:
            return
        denoiser = getattr(denoiser, "_orig_mod", denoiser)
        hooks = [hook for hook in denoiser._forward_hooks.values() if isinstance(hook, GuidanceHook)]
        if any(caller_within(hook.pipe, [hook.pipe]) for hook in hooks):
            raise RuntimeError("SelfAttentionGuidance is enabled on this pipeline, too: disable it first")
        self._calling = calling_of(denoiser)
        if self._count_prepared != (1 if self._calling.prompt_first else self.num_conditions):
            return
        step = self._sampling_step()
        self._idle.begin(step)
        if not self.guidance.guides(step.number, step.total):
            return
        if self._last is None or self.guidance.renews(step.number, step.total):
            self._watch(denoiser)
        else:
            self._shift = self._last

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Take every hook off the denoiser."""
        self._release()

    def forward(
        self,
        pred_cond: Float[Tensor, "batch *out"],
        pred_uncond: Float[Tensor, "batch *out"] | None = None,
    ) -> GuiderOutput:
        """Classifier-free guidance of the shifted predictions, in whichever sign blocks hand them over.

        Z-Image's turn the denoiser's sign to the scheduler's before, others leave it. That is seen in the
        prediction of the watched pass.
        """
        if self._calling is not None and self.guidance.sag_scale > 0:
            self._idle.end(self._sampling_step(), self._steps, type(self).__name__)
        if self._shift is None or self._calling is None:
            return super().forward(pred_cond, pred_uncond)
        if self._raw is not None:
            first = self._calling.prompt_first or pred_uncond is None
            self._sign = _sign(pred_cond if first else pred_uncond, self._raw)
            self._raw = None
        shift = self._shift if self._sign is None else self._shift * self._sign
        conditional = _shifted(pred_cond, shift, self._calling)
        if pred_uncond is None:
            return super().forward(conditional)
        return super().forward(conditional, _shifted(pred_uncond, shift, self._calling))

    def _sampling_step(self) -> SamplingStep:
        if self._scheduler is None:
            raise RuntimeError("this guider knows no scheduler: call guider.bind(scheduler) first")
        return sampling_step(self._scheduler, float(self._timestep))

    def _watch(self, denoiser: nn.Module) -> None:
        if self._extra is None or self._extra.tap.model is not denoiser:
            self._extra = DegradedPass(self.guidance, AttentionTap(denoiser, self.guidance.layers))
        self._extra.tap.attach()
        begin, observe = eager(self._begin), eager(self._observe)
        self._handles = [
            denoiser.register_forward_pre_hook(begin, with_kwargs=True),
            denoiser.register_forward_hook(observe, with_kwargs=True, always_call=True),
        ]

    def _begin(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        if not is_unwatched():
            self._given = Given.take(args, kwargs)

    def _observe(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Output) -> None:
        if self._extra is None or is_unwatched():
            return
        try:
            if output is not None and self._given is not None:  # None: the denoiser raised
                call = _whole_call(module, self._given, output)
                self._shift, guided = self._extra.shift(call, self._sampling_step(), self._scheduler)
                self._steps.append(guided)
                self._last, self._raw = None if guided.noise_alone else self._shift, call.raw
        finally:
            self._extra.tap.detach()
            # After an error torch still walks its hooks, and only the last may go from under it.
            if self._handles and next(reversed(module._forward_hooks)) == self._handles[-1].id:
                self._release()

    def _release(self) -> None:
        if self._extra is not None:
            self._extra.tap.detach()
        while self._handles:
            self._handles.pop().remove()
        self._given = None


def _check(scale: Any, rescale: Any, original: Any, start: Any, stop: Any, enabled: Any) -> None:
    """Raise ValueError for what classifier-free guidance cannot be given."""
    starts = is_number(start) and 0 <= start < 1
    for name, value, holds, expected in (
        ("guidance_scale", scale, is_number(scale), "a finite number"),
        ("guidance_rescale", rescale, is_number(rescale) and 0 <= rescale <= 1, "a number in [0, 1]"),
        ("use_original_formulation", original, isinstance(original, bool), "True or False"),
        ("start", start, starts, "a number in [0, 1)"),
        ("stop", stop, starts and is_number(stop) and start < stop <= 1, f"a number in ({start!r}, 1]"),
        ("enabled", enabled, isinstance(enabled, bool), "True or False"),
    ):
        if not holds:
            raise ValueError(f"{name} is {value!r}; expected {expected}")


def _whole_call(module: nn.Module, given: Given, output: Output) -> DenoiserCall:
    """A call of one condition alone, as modular pipelines make it; UnsupportedError for what cannot be."""
    calling, inputs = calling_of(module), given.named(module)
    why = calling.refused(module, inputs)
    if why:
        raise UnsupportedError(f"{type(module).__name__} {why}")
    sample, made = (
        calling.holding.read(held, inputs) for held in (inputs[calling.sample], predicted(output))
    )
    channels = channels_of(calling, sample, made)
    return DenoiserCall(module, calling, given, output, Parts(), Channels(channels))


def _sign(
    prediction: Float[Tensor, "batch *made"] | None, raw: Float[Tensor, "batch *out"]
) -> Float[Tensor, ""] | None:
    """1 where a prediction is what the denoiser returned, -1 where it is the negative."""
    if prediction is None:
        return None
    made = raw[:, : prediction.shape[1]].to(prediction.dtype)
    return torch.where((made * prediction).sum() < 0, -1.0, 1.0).to(prediction.dtype)


def _shifted(
    prediction: Float[Tensor, "batch *out"], shift: Float[Tensor, "images *latent"], calling: Calling
) -> Float[Tensor, "batch *out"]:
    """`prediction` with δ on its latent channels: learned sigma follows them.

    δ has the tokens of reference images too, which blocks may have cut off the prediction.
    """
    axis = calling.channel_axis
    if axis != 1:
        shift = shift[:, : prediction.shape[1]]
    shifted = prediction.clone()
    shifted.narrow(axis, 0, shift.shape[axis]).add_(shift, alpha=calling.sign)
    return shifted
