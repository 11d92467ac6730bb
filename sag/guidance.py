"""Self-attention guidance, by TokenRank or by attention received, for any diffusers pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sag.caches import refuse_deepcache
from sag.degraded import GuidedStep
from sag.hook import GuidanceHook
from sag.noise import noise_formula
from sag.settings import GuidanceSettings
from tokenrank_guidance.capture import AttentionTap
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.components import denoisers_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import calling_of, guidable


@dataclass
class _State:
    """What changes in a guidance: what to undo when it is disabled, and what its last call looked at."""

    undo: ExitStack | None = None
    steps: list[GuidedStep] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class SelfAttentionGuidance(GuidanceSettings):
    """Guides sampling away from what the model predicts once its most attended tokens are blurred.

    At each step ε ← ε + s(ε − ε̂) with ε̂ the prediction for x̂ = α·x̂₀′ + σ·ε and x̂₀′ = w·blur(x̂₀) + (1 − w)·x̂₀,
    the mask w being 1 for tokens whose score is above the threshold, and 0 for others. `scorer="sag"` with
    `keep_contrast=0` is Self-Attention Guidance (Hong et al., ICCV 2023), which scores tokens by attention
    that they receive; `"tokenrank"` scores them by N·π, π being the stationary distribution of attention as a
    Markov chain (Erel et al., NeurIPS 2025). Both have mean 1.

        with SelfAttentionGuidance(sag_scale=0.75)(pipe):
            image = pipe(prompt).images[0]

    scorer: a name of `sag.scorers.SCORERS` ("tokenrank", "sag", "tokenrank-incoming", "tokenrank-stride2",
        "rollout", "gradient-chain", "gradient-rollout"), or a function of an `AttentionRecord` to (batch,
        tokens) scores with mean 1. Those of gradients make one more pass, forward and back.
    sag_scale: s ≥ 0; at 0 nothing is attached: the pipeline is the unguided one, bit for bit.
    layers: "auto" (the middle block), a module's name or index, or several, whose scores are averaged.
    damping, head_weights: TokenRank's d in (0, 1), and "mean" or "lambda2" mixing of heads.
    threshold: scores above it are blurred. blur_kernel, blur_sigma: in latent pixels; the kernel is odd.
    start, stop: guided part of the schedule, as fractions. every: guide each `every`-th of those steps.
    mask: "hard" as above; "soft": w = min(score / (2·threshold), 1), ½ at the threshold, which must be > 0.
    reuse: make the extra pass in each `reuse`-th guided step alone; the steps in between add its s(ε − ε̂),
        but not that of noise alone, with which rectified flow begins, and which is 0.
    keep_contrast: φ in [0, 1], how far each latent channel of x̂₀ keeps the mean and the standard deviation
        over pixels that it has without this guidance: at 1 wholly (`sag.contrast`; Lin et al., WACV 2024).

    Raises ValueError for values outside these ranges.
    """

    _state: _State = field(default_factory=_State, init=False, repr=False)

    def enable(self, pipe: Any) -> SelfAttentionGuidance:
        """Guide every call of `pipe` until `disable`; its scheduler may be exchanged in between.

        Other pipelines over the same denoiser, and loops of one's own, are left unguided; they may have a
        guidance of their own (a loop: enabled on an object with its `unet` or `transformer` and its
        `scheduler`, for what the object's methods call). The first guided step of every run shows whether the
        shift comes out of the pipeline as it went in (`sag.contract`): if not, UnsupportedError.

        Raises RuntimeError if this guidance is enabled already or another is on this pipeline, ValueError for
        a layer that does not exist, and UnsupportedError for what cannot be guided.
        """
        habits = guidable(pipe)
        denoisers = denoisers_of(pipe)
        if self._state.undo is not None:
            raise RuntimeError("this guidance is already enabled; call disable() first")
        if any(isinstance(hook, GuidanceHook) and hook.pipe is pipe for hook in _hooks(denoisers)):
            raise RuntimeError(f"another guidance is enabled on this {type(pipe).__name__}: disable it first")
        if "guider" in getattr(pipe, "component_names", ()) and not habits.mixes_more:
            raise UnsupportedError(
                f"{type(pipe).__name__} guides by a guider: guide it with sag.TokenRankGuider().guide(pipe)"
            )
        for denoiser in denoisers:
            calling_of(denoiser)
        noise_formula(getattr(pipe, "scheduler", None))
        for denoiser in denoisers:
            refuse_deepcache(denoiser)
        taps = [AttentionTap(denoiser, self.layers) for denoiser in denoisers]
        self._state.undo = ExitStack()
        if self.sag_scale > 0:
            self._attach(GuidanceHook(self, pipe, taps, self._state.steps), self._state.undo)
        return self

    def _attach(self, hook: GuidanceHook, undo: ExitStack) -> None:
        called: Any = hook  # the disabled compiler hides its signature
        undo.callback(_warn_of_nothing, hook)
        for denoiser, tap in hook.taps.items():
            undo.callback(denoiser.register_forward_pre_hook(eager(hook.begin), with_kwargs=True).remove)
            undo.callback(tap.attach().detach)  # after `begin`, which tells it whose call comes
            undo.callback(denoiser.register_forward_hook(called, with_kwargs=True).remove)
        undo.callback(hook.close)

    def disable(self) -> None:
        """Take every hook off; does nothing if guidance is not enabled. The last call's `steps` stay."""
        if self._state.undo is not None:
            self._state.undo.close()
            self._state.undo = None

    @contextmanager
    def __call__(self, pipe: Any) -> Iterator[SelfAttentionGuidance]:
        """Guide `pipe` inside a `with` block."""
        self.enable(pipe)
        try:
            yield self
        finally:
            self.disable()

    @property
    def steps(self) -> list[GuidedStep]:
        """Scores and masks of the last call's extra passes, in order: a new list each time.

        A call may set timesteps anew for each section of a video; in a loop of one's own that begins a call.
        """
        return list(self._state.steps)


def _hooks(denoisers: Sequence[nn.Module]) -> list[Any]:
    return [hook for denoiser in denoisers for hook in denoiser._forward_hooks.values()]


def _warn_of_nothing(hook: GuidanceHook) -> None:
    """Another pipeline, or a loop, over the same denoiser is not guided: say so where nothing was."""
    if hook.strangers and not hook.steps:
        warnings.warn(
            f"nothing was guided: the denoiser was called {hook.strangers} times, never by a call of the "
            f"{type(hook.pipe).__name__} that guidance is enabled on",
            UserWarning,
            stacklevel=2,
        )
