"""The same guidance as a guider of diffusers' modular pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from diffusers import ClassifierFreeGuidance
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sag.call import DenoiserCall, Output, named_inputs
from sag.degraded import DegradedPass, GuidedStep
from sag.families import family_of
from sag.guidance import Layers, SelfAttentionGuidance
from sag.noise import SamplingStep, sampling_step
from tokenrank_guidance.capture import AttentionTap

if TYPE_CHECKING:
    from diffusers.guiders.classifier_free_guidance import GuiderOutput


class TokenRankGuider(ClassifierFreeGuidance):
    """Classifier-free guidance with `SelfAttentionGuidance`, for modular pipelines.

        guider = TokenRankGuider(guidance_scale=5.0, sag_scale=0.75)
        pipe.update_components(guider=guider.bind(pipe.scheduler))

    ε ← CFG(ε_cond + δ, ε_uncond + δ) with δ = s(ε − ε̂), of the unconditional pass where there is one: what
    the hook does in the classic pipeline. The first six arguments are those of diffusers' guider, `sag_start`
    and `sag_stop` are the fractions of the schedule that δ is added in, all others those of
    `SelfAttentionGuidance`. Every argument is saved by `save_pretrained`; the scheduler is not.

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
        scorer: Literal["tokenrank", "sag"] = "tokenrank",
        sag_scale: float = 0.75,
        layers: Layers = "auto",
        damping: float = 0.99,
        head_weights: Literal["mean", "lambda2"] = "mean",
        threshold: float = 1.0,
        blur_kernel: int = 9,
        blur_sigma: float = 1.0,
        sag_start: float = 0.0,
        sag_stop: float = 1.0,
        every: int = 1,
        mask: Literal["hard", "soft"] = "hard",
        reuse: int = 1,
    ) -> None:
        super().__init__(guidance_scale, guidance_rescale, use_original_formulation, start, stop, enabled)
        if not isinstance(scorer, str):
            raise ValueError(f"scorer is {scorer!r}; a guider is saved, so it expects 'tokenrank' or 'sag'")
        self.guidance = SelfAttentionGuidance(
            scorer,
            sag_scale,
            layers,
            damping,
            head_weights,
            threshold,
            blur_kernel,
            blur_sigma,
            sag_start,
            sag_stop,
            every,
            mask,
            reuse,
        )
        self._scheduler: Any = None
        self._extra: DegradedPass | None = None
        self._handles: list[RemovableHandle] = []
        self._inputs: dict[str, Any] = {}
        self._shift: Float[Tensor, "rows *latent"] | None = None
        self._last: Float[Tensor, "rows *latent"] | None = None
        self._channel_axis = 1
        self._steps: list[GuidedStep] = []

    def bind(self, scheduler: Any) -> TokenRankGuider:
        """Read noise levels off this scheduler, the pipeline's own; bind again when that is exchanged."""
        self._scheduler = scheduler
        return self

    @property
    def steps(self) -> list[GuidedStep]:
        """Scores and masks of the last run's extra passes, in order: a new list each time."""
        return list(self._steps)

    def disable(self) -> None:
        """Guide no more, classifier-free neither, and take off what an interrupted run left."""
        super().disable()
        self._release()

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Begin a step."""
        super().set_state(step, num_inference_steps, timestep)
        self._release()
        self._shift = None
        if step == 0:
            self._last = None
            self._steps.clear()

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Watch the step's last pass: the unconditional one, or the only one.

        Raises RuntimeError without a bound scheduler, UnsupportedError for one that cannot be guided with or
        for an unknown denoiser, and ValueError for a layer that does not exist.
        """
        super().prepare_models(denoiser)
        if not self._enabled or self.guidance.sag_scale == 0 or self._count_prepared < self.num_conditions:
            return
        step = self._sampling_step()
        if not self.guidance.guides(step.number, step.total):
            return
        if self._last is None or self.guidance.renews(step.number, step.total):
            self._watch(getattr(denoiser, "_orig_mod", denoiser))
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
        """Classifier-free guidance of the shifted predictions."""
        if self._shift is None:
            return super().forward(pred_cond, pred_uncond)
        conditional = self._shifted(pred_cond, self._shift)
        if pred_uncond is None:
            return super().forward(conditional)
        return super().forward(conditional, self._shifted(pred_uncond, self._shift))

    def _sampling_step(self) -> SamplingStep:
        if self._scheduler is None:
            raise RuntimeError("this guider knows no scheduler: call guider.bind(pipe.scheduler) first")
        return sampling_step(self._scheduler, float(self._timestep))

    def _watch(self, denoiser: nn.Module) -> None:
        if self._extra is None or self._extra.tap.model is not denoiser:
            self._channel_axis = family_of(denoiser).channel_axis
            self._extra = DegradedPass(self.guidance, AttentionTap(denoiser, self.guidance.layers))
        self._extra.tap.attach()
        observe = denoiser.register_forward_hook(self._observe, with_kwargs=True, always_call=True)
        self._handles = [denoiser.register_forward_pre_hook(self._begin, with_kwargs=True), observe]

    def _begin(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        if self._extra is not None and not self._extra.busy:
            self._inputs = named_inputs(module, args, kwargs)

    def _observe(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any], output: Output) -> None:
        if self._extra is None or self._extra.busy:
            return
        try:
            if output is not None:  # None: the denoiser raised
                call = DenoiserCall(module, family_of(module), self._inputs, output, doubled=False)
                self._shift, guided = self._extra.shift(call, self._sampling_step(), self._scheduler)
                self._steps.append(guided)
                self._last = self._shift
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
        self._inputs = {}

    def _shifted(
        self, prediction: Float[Tensor, "batch *out"], shift: Float[Tensor, "batch *latent"]
    ) -> Float[Tensor, "batch *out"]:
        """`prediction` with δ on its latent channels: learned sigma follows them."""
        shifted = prediction.clone()
        shifted.narrow(self._channel_axis, 0, shift.shape[self._channel_axis]).add_(shift)
        return shifted
