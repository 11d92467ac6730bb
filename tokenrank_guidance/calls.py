"""What to call a pipeline with: its own signature says which arguments it takes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline

from tokenrank_guidance.errors import UnsupportedError

Arguments = dict[str, Any]
AS_ASKED = {"clean_caption": False, "use_resolution_binning": False}  # PixArt would change prompt and size


@dataclass(frozen=True)
class Job:
    """One image to draw: the same in every arm, and whatever is drawn beside it."""

    prompt: str | None
    seed: int


@dataclass(frozen=True)
class Sampling:
    """How all images are drawn; None leaves the choice to the pipeline."""

    steps: int
    cfg: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None


def jobs_for(pipe: DiffusionPipeline, prompts: Sequence[str], count: int, seed: int) -> list[Job]:
    """`count` images of each prompt, from the seeds seed, seed + 1, …, the same for each.

    Raises ValueError where the pipeline needs a prompt and there is none, or the other way round.
    """
    conditional = bool(_accepted(pipe) & {"prompt", "class_labels"})
    if conditional != bool(prompts):
        raise ValueError(f"{type(pipe).__name__} takes {'a --prompt' if conditional else 'no --prompt'}")
    return [Job(prompt, seed + i) for prompt in dict.fromkeys(prompts or [None]) for i in range(count)]


def call_arguments(pipe: DiffusionPipeline, sampling: Sampling, jobs: Sequence[Job]) -> Arguments:
    """Arguments that make `pipe` draw `jobs` as one batch; UnsupportedError for what it does not take."""
    return {
        **{name: value for name, value in AS_ASKED.items() if name in _accepted(pipe)},
        "num_inference_steps": sampling.steps,
        "generator": [torch.Generator().manual_seed(job.seed) for job in jobs],
        **_condition(pipe, jobs),
        **_size(pipe, sampling),
        **_classifier_free(pipe, sampling, len(jobs)),
    }


def _accepted(pipe: DiffusionPipeline) -> set[str]:
    return set(inspect.signature(pipe.__call__).parameters)


def _condition(pipe: DiffusionPipeline, jobs: Sequence[Job]) -> Arguments:
    accepted = _accepted(pipe)
    if "prompt" in accepted:
        return {"prompt": [job.prompt for job in jobs]}
    if "class_labels" in accepted:
        return {"class_labels": [_class_index(pipe, str(job.prompt)) for job in jobs]}
    return {"batch_size": len(jobs)}


def _class_index(pipe: DiffusionPipeline, label: str) -> int:
    """The class that `label` names, or is the number of."""
    names = getattr(pipe, "labels", None) or {}
    classes = pipe.transformer.config.num_embeds_ada_norm
    if label in names:
        return names[label]
    if label.isdecimal() and int(label) < classes:
        return int(label)
    raise ValueError(
        f"{type(pipe).__name__} knows no class {label!r}; expected a number below {classes} or its name"
    )


def _size(pipe: DiffusionPipeline, sampling: Sampling) -> Arguments:
    asked = {"height": sampling.height, "width": sampling.width}
    asked = {name: value for name, value in asked.items() if value is not None}
    _refuse(pipe, set(asked) - _accepted(pipe))
    return asked


def _classifier_free(pipe: DiffusionPipeline, sampling: Sampling, count: int) -> Arguments:
    """Classifier-free guidance, which FLUX names `true_cfg_scale` and does only with a negative prompt."""
    accepted, cfg, negative = _accepted(pipe), sampling.cfg, sampling.negative_prompt
    separate = "true_cfg_scale" in accepted
    scale = "true_cfg_scale" if separate else "guidance_scale"
    if negative is not None:
        _refuse(pipe, {"negative_prompt"} - accepted)
        if (cfg is None and separate) or (cfg is not None and cfg <= 1):
            raise ValueError("--negative-prompt has no effect without --cfg above 1")
    if cfg is not None:
        _refuse(pipe, {"cfg"} if scale not in accepted else set())
    if separate and cfg is not None and cfg > 1:
        negative = negative or ""
    arguments = {} if cfg is None else {scale: cfg}
    return arguments | ({} if negative is None else {"negative_prompt": [negative] * count})


def _refuse(pipe: DiffusionPipeline, options: set[str]) -> None:
    if options:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(options))
        raise UnsupportedError(f"{type(pipe).__name__} does not take {names}")
