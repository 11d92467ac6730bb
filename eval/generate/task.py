"""What is drawn: the pipeline, its prompts and sampling, and all that the images' bytes depend on."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from eval.generate.arms import Arm
from eval.generate.draw import Drawing
from eval.generate.prompts import Prompts, read_prompts
from eval.generate.store import ArmStore
from eval.processes import device_of
from tokenrank_guidance.calls import Sampling
from tokenrank_guidance.devices import DTYPES
from tokenrank_guidance.files.digest import joint_digest, pipeline_digest
from tokenrank_guidance.messages import say
from tokenrank_guidance.pipelines import load_model
from tokenrank_guidance.report import Json, versions
from tokenrank_guidance.schedulers import exchange_scheduler
from tokenrank_guidance.sizes import check_size

PACKAGES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Task:
    """A loaded pipeline and how it draws."""

    pipe: Any
    prompts: Prompts
    sampling: Sampling
    settings: Json

    def reseeded(self, seed: int) -> Task:
        """The same with image 0 from another seed."""
        return replace(self, settings=self.settings | {"seed": seed})

    def store(self, arm: Arm, out: Path, suffix: str) -> ArmStore:
        """Where the arm's images are."""
        settings = self.settings | {"arm": arm.text, "guidance": arm.all_settings}
        return ArmStore(out / arm.folder, settings, suffix)

    def drawings(self, arms: tuple[Arm, ...]) -> dict[Arm, Drawing]:
        """One per arm, all of them checked before the first image is drawn."""
        drawings = {arm: Drawing.of(self.pipe, self.sampling, arm) for arm in arms}
        check_size(self.pipe, self.sampling.height, self.sampling.width, self.settings["batch_size"])
        for drawing in drawings.values():
            drawing.check(self.prompts.jobs(range(len(self.prompts.texts)), 0))
        return drawings


def open_task(arguments: Namespace, state: PartialState) -> Task:
    """Load the model and read the prompts; ValueError or OSError where one cannot be had."""
    torch.set_num_threads(arguments.threads)
    device = device_of(state, arguments.device)
    model = load_model(arguments.model, device, DTYPES[arguments.dtype])
    pipe: Any = model.pipe
    if arguments.scheduler is not None:
        exchange_scheduler(pipe, arguments.scheduler)
    if getattr(pipe, "safety_checker", None) is not None:
        say("the safety checker is off: an image that it blackened would count as a sample")
        pipe.safety_checker = None
    pipe.set_progress_bar_config(disable=True)
    prompts = read_prompts(arguments.prompts, pipe, model.embedded)
    cfg = model.cfg(arguments.cfg)
    sampling = Sampling(arguments.steps, cfg, arguments.negative_prompt, arguments.height, arguments.width)
    return Task(pipe, prompts, sampling, _settings(arguments, pipe, prompts, sampling, model.name))


def _settings(arguments: Namespace, pipe: Any, prompts: Prompts, sampling: Sampling, name: str) -> Json:
    scheduler = joint_digest(sorted((key, str(value)) for key, value in pipe.scheduler.config.items()))
    return {
        "model": name,
        "weights": pipeline_digest(pipe),
        "scheduler": f"{type(pipe.scheduler).__name__} {scheduler[:16]}",
        **vars(sampling),
        "prompts_sha256": prompts.digest,
        "seed": arguments.seed,
        "batch_size": arguments.batch_size,
        "dtype": arguments.dtype,
        "device": pipe.device.type,
        "threads": arguments.threads if pipe.device.type == "cpu" else None,
        "format": arguments.format,
        "versions": versions(PACKAGES),
    }
