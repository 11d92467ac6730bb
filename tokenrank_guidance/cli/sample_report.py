"""What `tokenrank sample` prints: everything that was asked for, and what it came to."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields

from sag.guidance import SelfAttentionGuidance
from sag.settings import GuidanceSettings
from tokenrank_guidance.calls import Job
from tokenrank_guidance.cli.arms import Arm, Study
from tokenrank_guidance.cli.overlap import bootstrap_mean
from tokenrank_guidance.pipelines import Model
from tokenrank_guidance.report import Json, versions


def sample_report(
    arguments: Namespace, model: Model, study: Study, drawn: Mapping[str, Arm], files: Mapping[str, list[str]]
) -> Json:
    """Configuration as it was resolved, versions, `n` images per arm, and what each arm came to."""
    width, height = next(iter(drawn.values())).images[0].size
    resolved = {
        "model": model.name,
        "device": str(study.pipe.device),
        "scheduler": type(study.pipe.scheduler).__name__,
        "prompt": list(dict.fromkeys(job.prompt for job in study.jobs)),
        "cfg": study.sampling.cfg,
        "n": study.per_prompt,
        "width": width,
        "height": height,
        **_guidance(study.guidance),
        "out": str(arguments.out),
    }
    given = {name: value for name, value in vars(arguments).items() if name != "command"}
    return {
        "command": arguments.command,
        "config": given | resolved,
        "seed": arguments.seed,
        "n": len(study.jobs),
        "versions": versions(),
        "arms": {name: _arm_report(arm, study.jobs, files[name]) for name, arm in drawn.items()},
    }


def _guidance(guidance: SelfAttentionGuidance) -> Json:
    """Every setting that the arms have in common, by its option's name."""
    settings = {
        field.name: getattr(guidance, field.name)
        for field in fields(GuidanceSettings)
        if field.name != "scorer"
    }
    return settings | {"scale": settings.pop("sag_scale")}


def _arm_report(arm: Arm, jobs: Sequence[Job], files: Sequence[str]) -> Json:
    """An arm's cost and overlap; the seconds include scoring for the other arm, which the overlap needs.

    Steps count from 1; a second-order scheduler guides twice in one.
    """
    return {
        "images": _images(arm, jobs, files),
        "seconds_per_image": round(arm.seconds / len(arm.images), 4),
        "denoiser_calls": arm.calls,
        "mean_iou": _mean_overlap(arm),
        "steps": _steps(arm),
    }


def _images(arm: Arm, jobs: Sequence[Job], files: Sequence[str]) -> list[Json]:
    overlaps = [None] * len(jobs) if arm.overlap is None else arm.overlap.mean(0).tolist()
    return [
        {"file": file, "prompt": job.prompt, "seed": job.seed, "iou": overlap}
        for file, job, overlap in zip(files, jobs, overlaps, strict=True)
    ]


def _mean_overlap(arm: Arm) -> Json | None:
    """Mean IoU over images, each being the mean over steps."""
    return None if arm.overlap is None else bootstrap_mean(arm.overlap.mean(0)).to_json()


def _steps(arm: Arm) -> list[Json]:
    if arm.overlap is None:
        return []
    return [
        {
            "step": step.number + 1,
            "timestep": step.timestep,
            "iou": overlap.mean().item(),
            "masked_fraction": step.own.cpu().double().mean().item(),
        }
        for step, overlap in zip(arm.steps, arm.overlap, strict=True)
    ]
