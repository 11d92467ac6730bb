"""Drawing the same images without guidance, with SAG, with TokenRank, or with PAG."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from sag.guidance import SelfAttentionGuidance
from sag.kinds import NONE, PAG
from sag.perturbed import perturbed
from tokenrank_guidance.calls import Job, Sampling, call_arguments, finite_pictures
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.cli.overlap import StepMasks, intersection_over_union, join, paired_scorer
from tokenrank_guidance.components import denoiser_of


@dataclass(frozen=True)
class Arm:
    """One way of guiding, and what came of it; `seconds` and denoiser `calls` are those of all images."""

    name: str
    images: list[Image.Image]
    steps: list[StepMasks]
    seconds: float
    calls: int

    @property
    def overlap(self) -> Float[Tensor, "steps images"] | None:
        """IoU of the SAG and TokenRank masks; None where nothing was guided."""
        if not self.steps:
            return None
        return torch.stack([intersection_over_union(step.own, step.other) for step in self.steps])


@dataclass(frozen=True)
class Study:
    """All that the arms have in common; `guidance` has every setting but the scorer. PAG has its scale."""

    pipe: Any
    sampling: Sampling
    guidance: SelfAttentionGuidance
    jobs: Sequence[Job]
    batch_size: int

    @property
    def per_prompt(self) -> int:
        """Images of each prompt."""
        return len(self.jobs) // len({job.prompt for job in self.jobs})

    def check(self, arms: Sequence[str]) -> None:
        """Raise now what sampling would raise: for a pipeline, scheduler or layer that does not do."""
        for job in {job.prompt: job for job in self.jobs}.values():
            call_arguments(self.pipe, self.sampling, [job])
        call_arguments(self.pipe, self.sampling, self.jobs[: self.batch_size])
        if PAG in arms:
            perturbed(self.pipe)
        if set(arms) - {NONE, PAG}:
            with self.guidance(self.pipe):
                pass

    def draw(self, arm: str, save: Callable[[int, Image.Image], object] = lambda i, image: None) -> Arm:
        """Draw every job's image, in batches, each from its own generator; `save` each once it is drawn."""
        images, batches, started = [], [], time.perf_counter()
        with _counted(denoiser_of(self.pipe)) as calls:
            for first in range(0, len(self.jobs), self.batch_size):
                batch = self.jobs[first : first + self.batch_size]
                done = f"{arm} {first + len(batch)}/{len(self.jobs)}"
                self.pipe.set_progress_bar_config(desc=done, leave=False)
                drawn, masks = self._draw_batch(arm, batch)
                for image in drawn:
                    save(len(images), image)
                    images.append(image)
                batches.append(masks)
        return Arm(arm, images, join(batches), time.perf_counter() - started, calls[0])

    def _draw_batch(self, arm: str, jobs: Sequence[Job]) -> tuple[list[Image.Image], list[StepMasks]]:
        with finite_pictures(self.pipe):
            return self._drawn(arm, jobs)

    def _drawn(self, arm: str, jobs: Sequence[Job]) -> tuple[list[Image.Image], list[StepMasks]]:
        arguments = call_arguments(self.pipe, self.sampling, jobs)
        device = self.pipe.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(jobs[0].seed)  # DiT gives a stochastic scheduler no generator
            if arm == NONE:
                return self.pipe(**arguments).images, []
            if arm == PAG:
                return perturbed(self.pipe)(**arguments, pag_scale=self.guidance.sag_scale).images, []
            scorer = paired_scorer(arm, self.guidance)
            with replace(self.guidance, scorer=scorer)(self.pipe) as guidance:
                images = self.pipe(**arguments).images
        return images, scorer.masks(guidance.steps, guidance.threshold)


@contextmanager
def _counted(denoiser: nn.Module) -> Iterator[list[int]]:
    """Counts the denoiser's calls in the list's one number."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    handle = denoiser.register_forward_pre_hook(eager(count))
    try:
        yield calls
    finally:
        handle.remove()
