"""Drawing one micro-batch, and what it cost."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor

from eval.generate.arms import NONE, PAG, PAG_DEFAULTS, Arm
from sag.guidance import SelfAttentionGuidance
from sag.settings import Layers
from tokenrank_guidance.calls import Arguments, Job, Sampling, call_arguments, finite_pictures
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.quiet import quiet_libraries


@dataclass(frozen=True)
class Drawn:
    """The images of one micro-batch; `calls` of the denoiser, `evaluations` per image (rows it was given).

    Classifier-free guidance is two evaluations in one call or two, by pipeline: evaluations compare.
    """

    images: list[Image.Image]
    seconds: float
    calls: int
    evaluations: float


@dataclass
class _Count:
    calls: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Drawing:
    """Draws jobs as `arm` guides them: the same jobs in one batch give the same images, bit for bit."""

    pipe: Any
    sampling: Sampling
    arm: Arm
    guidance: SelfAttentionGuidance | None = None

    @classmethod
    def of(cls, pipe: Any, sampling: Sampling, arm: Arm) -> Drawing:
        """The arm's drawing; UnsupportedError or ValueError for a model, scheduler or layer it cannot use."""
        if arm.name == NONE:
            return cls(pipe, sampling, arm)
        if arm.name == PAG:
            return cls(perturbed(pipe, dict(arm.settings).get("layers", "")), sampling, arm)
        guidance = arm.guidance()
        with guidance(pipe):
            pass
        return cls(pipe, sampling, arm, guidance)

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise now what drawing would raise for these jobs, one by one."""
        for job in jobs:
            self._arguments([job])

    def __call__(self, jobs: Sequence[Job]) -> Drawn:
        """Draw the jobs as one batch, each from its own generator."""
        arguments, device = self._arguments(jobs), self.pipe.device
        started = time.perf_counter()
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            self._guided(),
            _counted(self.pipe) as count,
            finite_pictures(self.pipe),
        ):
            torch.manual_seed(jobs[0].seed)  # DiT gives a stochastic scheduler no generator
            images = self.pipe(**arguments).images
        seconds = time.perf_counter() - started
        return Drawn(images, seconds, count.calls, count.rows / len(jobs))

    def _arguments(self, jobs: Sequence[Job]) -> Arguments:
        arguments = call_arguments(self.pipe, self.sampling, jobs)
        if self.arm.name == PAG:
            arguments["pag_scale"] = dict(self.arm.settings).get("scale", PAG_DEFAULTS["scale"])
        return arguments

    @contextmanager
    def _guided(self) -> Iterator[None]:
        if self.guidance is None:
            yield
            return
        with self.guidance(self.pipe):
            yield


def perturbed(pipe: Any, layers: Layers = "") -> Any:
    """diffusers' Perturbed-Attention pipeline over the same components; UnsupportedError if it has none.

    Source: Ahn et al. 2024, arXiv 2403.17377.
    """
    name = type(pipe).__name__
    kind = getattr(diffusers, name.replace("Pipeline", "PAGPipeline"), None)
    if kind is None or "PAG" in name:
        raise UnsupportedError(f"diffusers has no PAG for {name}: leave the arm pag out")
    had = {**pipe.config, **pipe.components}
    given = {key: had[key] for key in inspect.signature(kind.__init__).parameters if key in had}
    if layers:
        chosen = layers if isinstance(layers, tuple) else (layers,)
        given["pag_applied_layers"] = [str(layer) for layer in chosen]
    try:
        with quiet_libraries():
            made = kind(**given)
        _check_perturbed(made)
    except (ValueError, TypeError) as error:
        raise UnsupportedError(f"diffusers' PAG cannot take this {name}: {_first_line(error)}") from error
    made.set_progress_bar_config(disable=True)
    return made


def _check_perturbed(pipe: Any) -> None:
    """Put PAG's processors on its layers, which says whether they are there, and take them off again."""
    denoiser: Any = denoiser_of(pipe)
    before = dict(denoiser.attn_processors)
    try:
        pipe._set_pag_attn_processor(pipe.pag_applied_layers, do_classifier_free_guidance=False)
    finally:
        denoiser.set_attn_processor(before)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160]


@contextmanager
def _counted(pipe: Any) -> Iterator[_Count]:
    count = _Count()

    def note(module: object, args: tuple, kwargs: dict[str, Any]) -> None:
        given = kwargs.get("sample", kwargs.get("hidden_states", args[0] if args else None))
        count.calls += 1
        count.rows += len(given) if isinstance(given, Tensor) else 0

    handle = denoiser_of(pipe).register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield count
    finally:
        handle.remove()
