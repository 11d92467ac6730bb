"""Drawing from an embedded pipeline, for sample sheets and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from tokenrank_guidance.calls import Job, Sampling, call_arguments, finite_pictures


def sample_images(
    pipe: Any, prompts: Sequence[str], seed: int, *, scale: float = 4.0, steps: int = 24
) -> list[Image.Image]:
    """One image per prompt at the pipeline's own size, silently, from the seeds seed, seed + 1, …"""
    jobs = [Job(prompt, seed + i) for i, prompt in enumerate(prompts)]
    return sample_jobs(pipe, jobs, scale=scale, steps=steps)


def sample_jobs(pipe: Any, jobs: Sequence[Job], *, scale: float = 4.0, steps: int = 24) -> list[Image.Image]:
    """The jobs' images as one batch, at the pipeline's own size and silently."""
    pipe.set_progress_bar_config(disable=True)
    with finite_pictures(pipe):
        return pipe(**call_arguments(pipe, Sampling(steps, cfg=scale), jobs)).images
