"""Drawing one micro-batch, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from eval.generate.arms import Arm
from sag.guidance import SelfAttentionGuidance
from sag.kinds import NONE, PAG, PAG_SCALE
from sag.perturbed import perturbed
from tokenrank_guidance.calls import Arguments, Job, Sampling, call_arguments, finite_pictures
from tokenrank_guidance.components import denoiser_of


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
            arguments["pag_scale"] = dict(self.arm.settings).get("scale", PAG_SCALE)
        return arguments

    @contextmanager
    def _guided(self) -> Iterator[None]:
        if self.guidance is None:
            yield
            return
        with self.guidance(self.pipe):
            yield


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
