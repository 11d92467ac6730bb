"""From pictures to an embedded pipeline: first the autoencoder, then the denoiser on its latents."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from safetensors.torch import save
from torch import nn

from tokenrank_guidance.devices import usable_device
from tokenrank_guidance.files.digest import bytes_digest
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole
from tokenrank_guidance.tiny.architecture import build_pipeline
from tokenrank_guidance.tiny.autoencoder import train_autoencoder
from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.choices import AUTOENCODER_BATCH
from tokenrank_guidance.tiny.dataset import LabelledImages, load_images
from tokenrank_guidance.tiny.denoiser import encode_views, train_denoiser
from tokenrank_guidance.tiny.export import export_pipeline
from tokenrank_guidance.tiny.objective import Objective, RectifiedFlow, VPrediction
from tokenrank_guidance.tiny.progress import Schedule
from tokenrank_guidance.tiny.sampling import sample_images
from tokenrank_guidance.tiny.sheet import loss_curve, sample_sheet
from tokenrank_guidance.tiny.train.options import parse

OBJECTIVES: dict[str, Callable[[Any], Objective]] = {"tiny-flux": RectifiedFlow, "tiny-sd": VPrediction}
FINAL_COLUMNS = 8  # samples of each label
SHEET_EVERY = 20  # checkpoints from one sample sheet to the next


def obtain_autoencoder(options: argparse.Namespace, images: LabelledImages, folder: Path) -> AutoencoderTiny:
    """That of `--autoencoder` or `--start-from`, or the checkpoint folder's, trained here if need be."""
    source = options.autoencoder or options.start_from
    if source:
        return AutoencoderTiny.from_pretrained(source / "vae", use_safetensors=True).to(options.device)
    schedule = Schedule(options.autoencoder_images, batch=AUTOENCODER_BATCH, rate=2e-3, seed=options.seed)
    path = folder / "autoencoder.safetensors"
    return train_autoencoder(images, options.resolution, schedule, path, options.device)


def starting_pipeline(options: argparse.Namespace, vae: AutoencoderTiny) -> DiffusionPipeline:
    """A pipeline with that autoencoder and the weights of `--start-from`, or random ones."""
    torch.manual_seed(options.seed)
    pipe = build_pipeline(options.name, options.resolution)
    pipe.vae.load_state_dict(vae.state_dict())
    if options.start_from:
        for name in OBJECTIVES[options.name](pipe).modules:
            module = getattr(pipe, name)
            trained = type(module).from_pretrained(options.start_from / name, use_safetensors=True)
            module.load_state_dict(trained.state_dict())
    return pipe


def cached_latents(
    options: argparse.Namespace, vae: AutoencoderTiny, images: LabelledImages, folder: Path
) -> torch.Tensor:
    """`encode_views`, kept beside the checkpoints under a digest of the autoencoder's weights."""
    weights = {name: value.cpu().contiguous() for name, value in vae.state_dict().items()}
    digest = bytes_digest(save(weights))[:12]
    path = folder / f"latents-{digest}.safetensors"
    if not path.exists():
        latents = encode_views(vae, images, options.resolution, options.seed, options.device)
        write_whole(path, lambda scratch: save_tensors({"latents": latents}, scratch))
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
    vae = obtain_autoencoder(options, images, folder)
    latents = cached_latents(options, vae, images, folder)
    pipe = starting_pipeline(options, vae)
    schedule = Schedule(
        options.images, options.batch, options.rate, options.seed, milestones=options.milestones
    )
    checkpoint = folder / f"{options.name}.safetensors"
    objective = OBJECTIVES[options.name](pipe)
    run = train_denoiser(options.name, objective, latents, images, schedule, checkpoint, options.device)
    for saves, (state, averaged) in enumerate(run):
        if schedule.is_milestone(state.step):
            out = folder / f"{options.name}-{state.step * options.batch}"
            write_results(options, vae, state, averaged, out, columns=FINAL_COLUMNS)
        if state.step == schedule.steps or saves % SHEET_EVERY == SHEET_EVERY - 1:
            last = state.step == schedule.steps
            out = options.out if last and options.out else folder / options.name
            write_results(options, vae, state, averaged, out, columns=FINAL_COLUMNS if last else 3)


def write_results(
    options: argparse.Namespace,
    vae: AutoencoderTiny,
    state: TrainingState,
    averaged: dict[str, nn.Module],
    out: Path,
    columns: int,
) -> None:
    """The pipeline with its averaged weights, its history, a sample sheet and the loss curve."""
    pipe = starting_pipeline(options, vae).to(options.device)
    seen = state.step * options.batch
    facts = {"images": seen, "seed": options.seed, "batch": options.batch, "rate": options.rate}
    facts |= {"resolution": options.resolution, "history": state.history}
    export_pipeline(pipe, averaged, facts, out)
    sample_sheet(pipe, sample_images, columns, options.seed).save(out / "samples.png", optimize=True)
    loss_curve(state.history, f"{options.name}: training loss", out / "loss.png")
