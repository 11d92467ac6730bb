"""Train an embedded model: `python -m tokenrank_guidance.tiny.train tiny-flux --data FILE`.

First the autoencoder, then the denoiser on its latents. Both stages resume from their checkpoints, which lie
outside the repository; ask for more `--images` to go on training.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from safetensors.torch import save
from torch import nn

from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.tiny.architecture import build_pipeline
from tokenrank_guidance.tiny.autoencoder import train_autoencoder
from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.dataset import LabelledImages, load_images
from tokenrank_guidance.tiny.denoiser import encode_views, train_denoiser
from tokenrank_guidance.tiny.export import export_pipeline
from tokenrank_guidance.tiny.objective import Objective, RectifiedFlow, VPrediction
from tokenrank_guidance.tiny.progress import Schedule
from tokenrank_guidance.tiny.sampling import sample_images
from tokenrank_guidance.tiny.sheet import loss_curve, sample_sheet

OBJECTIVES: dict[str, Callable[[Any], Objective]] = {"tiny-flux": RectifiedFlow, "tiny-sd": VPrediction}
FINAL_COLUMNS = 8  # samples of each label
SHEET_EVERY = 20  # checkpoints from one sample sheet to the next


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tokenrank_guidance.tiny.train", description=__doc__)
    parser.add_argument("name", choices=sorted(OBJECTIVES))
    parser.add_argument("--data", type=Path, required=True, help="objects16_train128.parquet")
    parser.add_argument("--checkpoints", type=Path, default=Path.home() / ".cache/tokenrank-training")
    parser.add_argument("--start-from", type=Path, help="folder of a trained pipeline to go on from")
    parser.add_argument(
        "--autoencoder", type=Path, help="folder of a trained pipeline whose autoencoder to share"
    )
    parser.add_argument("--out", type=Path, help="write the trained pipeline here at the end")
    parser.add_argument("--resolution", type=int, default=64, help="side of the training images in pixels")
    parser.add_argument("--images", type=int, default=500_000, help="images seen by the denoiser in all")
    parser.add_argument(
        "--milestones",
        type=_counts,
        default=(),
        metavar="N,N,…",
        help="numbers of images seen at which the pipeline is kept too, in the checkpoints' folder",
    )
    parser.add_argument("--autoencoder-images", type=int, default=48_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected numbers of images, as 20000,80000")
    return counts


def obtain_autoencoder(options: argparse.Namespace, images: LabelledImages, folder: Path) -> AutoencoderTiny:
    """That of `--autoencoder` or `--start-from`, or the checkpoint folder's, trained here if need be."""
    source = options.autoencoder or options.start_from
    if source:
        return AutoencoderTiny.from_pretrained(source / "vae", use_safetensors=True).to(options.device)
    schedule = Schedule(options.autoencoder_images, batch=32, rate=2e-3, seed=options.seed)
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
    digest = hashlib.sha256(save(weights)).hexdigest()[:12]
    path = folder / f"latents-{digest}.safetensors"
    if not path.exists():
        latents = encode_views(vae, images, options.resolution, options.seed, options.device)
        save_tensors({"latents": latents}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    return load_tensors(path)[0]["latents"]


def train(options: argparse.Namespace) -> None:
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


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        train(options)
    except KeyboardInterrupt:
        print("interrupted; the checkpoint is written, run the same command to go on", file=sys.stderr)
        return 130
    except (ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
