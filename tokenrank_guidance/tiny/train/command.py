"""From pictures to an embedded pipeline: first the autoencoder, then the denoiser on its latents."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import nn

from tokenrank_guidance.devices import usable_device
from tokenrank_guidance.files.digest import file_digest, joint_digest, weights_digest
from tokenrank_guidance.files.pretrained import load_weights
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole
from tokenrank_guidance.messages import say
from tokenrank_guidance.tiny.architecture import build_pipeline, set_resolution
from tokenrank_guidance.tiny.autoencoder import train_autoencoder
from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.choices import AUTOENCODER_BATCH
from tokenrank_guidance.tiny.dataset import LabelledImages, load_images
from tokenrank_guidance.tiny.denoiser import encode_views, train_denoiser
from tokenrank_guidance.tiny.export import export_pipeline
from tokenrank_guidance.tiny.loader import load_folder
from tokenrank_guidance.tiny.objective import Objective, RectifiedFlow, VPrediction
from tokenrank_guidance.tiny.progress import Run, Schedule
from tokenrank_guidance.tiny.sampling import sample_jobs
from tokenrank_guidance.tiny.sheet import loss_curve, sample_sheet
from tokenrank_guidance.tiny.speed import on_gpu, quick_numbers
from tokenrank_guidance.tiny.train.options import parse

OBJECTIVES: dict[str, Callable[[Any], Objective]] = {"tiny-flux": RectifiedFlow, "tiny-sd": VPrediction}
FINAL_COLUMNS = 8  # samples of each label
SHEET_EVERY = 20  # checkpoints from one sample sheet to the next
COOLDOWN = 0.35  # of the autoencoder's rate, and of a run by the clock


def obtain_autoencoder(options: argparse.Namespace, images: LabelledImages, folder: Path) -> AutoencoderTiny:
    """That of `--autoencoder` or `--start-from`, or the checkpoint folder's, trained here if need be."""
    source = options.autoencoder or options.start_from
    if source:
        return _network(AutoencoderTiny, source / "vae").to(options.device)
    schedule = Schedule(
        options.autoencoder_images, AUTOENCODER_BATCH, rate=2e-3, seed=options.seed, cooldown=COOLDOWN
    )
    run = Run("autoencoder", schedule, folder / "autoencoder.safetensors", options.device)
    return train_autoencoder(images, options.resolution, run)


def starting_pipeline(options: argparse.Namespace, vae: AutoencoderTiny) -> DiffusionPipeline:
    """A pipeline with that autoencoder and the networks of `--start-from`, or random ones."""
    torch.manual_seed(options.seed)
    pipe = build_pipeline(options.name, options.resolution)
    parts: dict[str, Any] = {"vae": copy.deepcopy(vae)}  # an export rounds it
    parts["vae"].to(memory_format=torch.contiguous_format)
    if options.start_from:
        for name in OBJECTIVES[options.name](pipe).modules:
            kind = type(getattr(pipe, name))
            parts[name] = _network(kind, options.start_from / name)
    pipe.register_modules(**parts)
    set_resolution(pipe, options.resolution)
    return pipe


def _network(kind: type[nn.Module], folder: Path) -> Any:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected a pipeline's with its {kind.__name__}")
    return load_weights(kind, folder, dtype=torch.float32, local_files_only=True)


def cached_latents(
    options: argparse.Namespace, vae: AutoencoderTiny, images: LabelledImages, folder: Path
) -> torch.Tensor:
    """`encode_views`, kept beside the checkpoints under a digest of all that they depend on."""
    source = [weights_digest(vae), file_digest(options.data), options.seed, options.views]
    path = folder / f"latents-{joint_digest(source)[:12]}.safetensors"
    if not path.exists():
        with quick_numbers(options.device):
            latents = encode_views(vae, images, options.resolution, options.views, options.seed)
        write_whole(path, lambda scratch: save_tensors({"latents": latents}, scratch))
        return latents
    return load_tensors(path)[0]["latents"]


def main(argv: Sequence[str]) -> None:
    """Train as the arguments say; errors are those of `train`."""
    train(parse(argv))


def train(options: argparse.Namespace) -> None:
    """Train as `options` say; ValueError for unfit data, FloatingPointError for a loss that is not finite."""
    options.device = usable_device(options.device)
    folder = options.checkpoints / str(options.resolution)
    folder.mkdir(parents=True, exist_ok=True)
    images = load_images(options.data)
    _check_batches(options, len(images.labels))
    vae = obtain_autoencoder(options, images, folder)
    latents = cached_latents(options, vae, images, folder)
    pipe = starting_pipeline(options, vae)
    run = denoiser_run(options, folder)
    stages = train_denoiser(OBJECTIVES[options.name](pipe), latents, images, run)
    for saves, (state, averaged) in enumerate(stages):
        if run.schedule.is_milestone(state.step):
            out = folder / f"{options.name}-{state.step * options.batch}"
            write_results(options, vae, state, averaged, out, columns=FINAL_COLUMNS)
        last = run.over(state)
        if last or saves % SHEET_EVERY == SHEET_EVERY - 1:
            out = options.out if last and options.out else folder / options.name
            write_results(options, vae, state, averaged, out, columns=FINAL_COLUMNS if last else 1)


def denoiser_run(options: argparse.Namespace, folder: Path) -> Run:
    """The denoiser's stage, by `--images` or by `--minutes`."""
    schedule = Schedule(
        options.images,
        options.batch,
        options.rate,
        options.seed,
        milestones=options.milestones,
        minutes=options.minutes,
    )
    if options.minutes:
        schedule = replace(schedule, cooldown=COOLDOWN)
    compiled = on_gpu(options.device) if options.compile == "auto" else options.compile == "yes"
    return Run(options.name, schedule, folder / f"{options.name}.safetensors", options.device, compiled)


def _check_batches(options: argparse.Namespace, count: int) -> None:
    trained = options.autoencoder or options.start_from
    most = max(options.batch, 0 if trained else AUTOENCODER_BATCH)
    if count < most:
        raise ValueError(f"{options.data} holds {count} images; expected at least a batch of {most}")


def write_results(
    options: argparse.Namespace,
    vae: AutoencoderTiny,
    state: TrainingState,
    averaged: dict[str, nn.Module],
    out: Path,
    columns: int,
) -> None:
    """First the pipeline with its averaged weights and its history, then the loss curve and samples."""
    pipe = starting_pipeline(options, vae)
    seen = state.step * options.batch
    facts = {"images": seen, "seed": options.seed, "batch": options.batch, "rate": options.rate}
    facts |= {"resolution": options.resolution, "seconds": round(state.seconds, 1), "history": state.history}
    export_pipeline(pipe, averaged, facts, out)
    say(f"{options.name}: weights after {seen:,} images are in {out}")
    loss_curve(state.history, f"{options.name}: training loss", out / "loss.png")
    torch.cuda.empty_cache()  # what training holds counts as taken where sampling asks for room
    shipped = load_folder(out).to(options.device)  # as users have it, captions not padded beyond their length
    sheet = sample_sheet(shipped, sample_jobs, columns, options.seed)
    sheet.save(out / "samples.jpg", quality=90)
