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
    pipe.set_progress_bar_config(disable=True)
    jobs = [Job(prompt, seed + i) for i, prompt in enumerate(prompts)]
    with finite_pictures(pipe):
        return pipe(**call_arguments(pipe, Sampling(steps, cfg=scale), jobs)).images
