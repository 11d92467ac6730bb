"""What to call a pipeline with: its own signature says which arguments it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline

from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.checks import is_number, is_seed, is_whole
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.sizes import both_sides, check_size

Arguments = dict[str, Any]
LENGTHS = ("num_frames", "video_length")  # what a call names its number of frames
GIVEN = (
    *("image", "images", "mask_image", "control_image", "conditioning_frames", "controls"),
    *("video", "control_video", "pose_video"),
)  # pictures and videos that calls may take
AS_ASKED = {"clean_caption": False, "use_resolution_binning": False}  # PixArt would change prompt and size


@dataclass(frozen=True)
class Job:
    """One image to draw: the same in every arm, and whatever is drawn beside it.

    Raises ValueError for a seed that torch's generators do not take.
    """

    prompt: str | None
    seed: int

    def __post_init__(self) -> None:
        if not is_seed(self.seed):
            raise ValueError(f"seed: got {self.seed!r}, expected a whole number in [0, 2^63)")


@dataclass(frozen=True)
class Sampling:
    """How all images are drawn; None leaves the choice to the pipeline.

    Raises ValueError for numbers that nothing can be drawn with.
    """

    steps: int
    cfg: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        text = self.negative_prompt
        for name, holds, expected in (
            ("steps", is_whole(self.steps), "a whole number ≥ 1"),
            ("cfg", self.cfg is None or is_number(self.cfg), "a finite number"),
            ("negative_prompt", text is None or isinstance(text, str), "a text"),
            ("height", self.height is None or is_whole(self.height), "pixels ≥ 1"),
            ("width", self.width is None or is_whole(self.width), "pixels ≥ 1"),
            ("frames", self.frames is None or is_whole(self.frames), "a whole number ≥ 1"),
        ):
            if not holds:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")


def jobs_for(pipe: DiffusionPipeline, prompts: Sequence[str], count: int, seed: int) -> list[Job]:
    """`count` images of each prompt, from the seeds seed, seed + 1, …, the same for each.

    Raises ValueError where the pipeline needs a prompt and there is none, or the other way round.
    """
    conditional = bool(_accepted(pipe) & {"prompt", "class_labels"})
    if conditional != bool(prompts):
        raise ValueError(f"{type(pipe).__name__} takes {'a --prompt' if conditional else 'no --prompt'}")
    return [Job(prompt, seed + i) for prompt in dict.fromkeys(prompts or [None]) for i in range(count)]


def call_arguments(pipe: DiffusionPipeline, sampling: Sampling, jobs: Sequence[Job]) -> Arguments:
    """Arguments that make `pipe` draw `jobs` as one batch.

    Raises UnsupportedError for what it does not take: a size that it has no whole tokens for, and one that
    does not fit into memory, too.
    """
    size = _size(pipe, sampling)
    check_size(pipe, sampling.height, sampling.width, len(jobs))
    return {
        **{name: value for name, value in AS_ASKED.items() if name in _accepted(pipe)},
        "num_inference_steps": sampling.steps,
        "generator": [torch.Generator().manual_seed(job.seed) for job in jobs],
        **_condition(pipe, jobs),
        **size,
        **_classifier_free(pipe, sampling, len(jobs)),
    }


def length_of(pipe: Any) -> str | None:
    """What the pipeline's call names its number of frames; None where it has none."""
    return next((name for name in LENGTHS if name in _accepted(pipe)), None)


@contextmanager
def finite_pictures(pipe: Any) -> Iterator[None]:
    """In the block pictures are drawn; FloatingPointError at its end where one is NaN, which would be black.

    Looks at what the autoencoder's decoder gives, or at a denoiser's last output where that draws pixels.
    """
    decoder = getattr(getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None), "decoder", None)
    watched = decoder or getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    finite: list[bool] = []

    def look(module: Any, inputs: Any, output: Any) -> None:
        values = output if isinstance(output, torch.Tensor) else output[0]
        finite.append(bool(values.isfinite().all()))
        if decoder is None:
            del finite[:-1]  # of its steps the last one draws

    handle = watched.register_forward_hook(eager(look)) if isinstance(watched, torch.nn.Module) else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
    if not all(finite):
        raise FloatingPointError(
            "the pictures hold NaN or infinite numbers and would be black: try --dtype float32, or a lower "
            "classifier-free guidance or scale"
        )


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
    height, width = both_sides(pipe, sampling.height, sampling.width)
    asked = {"height": height, "width": width, length_of(pipe) or "frames": sampling.frames}
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
