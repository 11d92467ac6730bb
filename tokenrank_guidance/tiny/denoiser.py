"""Training of an embedded pipeline's denoiser and text encoders on the autoencoder's latents."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from tqdm import tqdm

from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.dataset import LabelledImages, random_views, resize, to_signed
from tokenrank_guidance.tiny.objective import Objective
from tokenrank_guidance.tiny.progress import Run, draw_rows, step_generator, training_loop
from tokenrank_guidance.tiny.speed import compile_network, mixed_precision, on_gpu, quick_numbers
from tokenrank_guidance.tiny.tokenizer import LABELS, TEMPLATES, build_tokenizer

SMALLEST_VIEW = 0.8
CAPTION_ODDS = (0.6, 0.15, 0.15, 0.10)  # the three templates, and no caption at all
EMA_POWER = 16.97  # γ of the average's profile tᵞ: a width of 5 % of the run (Karras et al. 2024, eq. 6)


def all_captions() -> list[str]:
    """Every caption of training: each template with each label, label fastest, and the empty one last."""
    return [template.format(label=label) for template in TEMPLATES for label in LABELS] + [""]


def caption_tokens() -> Int[Tensor, "m tokens"]:
    """`all_captions`, tokenised and padded."""
    return build_tokenizer()(all_captions(), padding="max_length", return_tensors="pt").input_ids


def draw_captions(labels: Int[Tensor, " b"], draw: Generator) -> Int[Tensor, " b"]:
    """For each label the row of a random caption of it in `all_captions`, or of the empty caption."""
    kind = torch.multinomial(_odds(labels.device), len(labels), replacement=True, generator=draw)
    empty = len(TEMPLATES) * len(LABELS)
    return torch.where(kind < len(TEMPLATES), kind * len(LABELS) + labels, empty)


@cache
def _odds(device: torch.device) -> Float[Tensor, " kinds"]:
    return torch.tensor(CAPTION_ODDS, device=device)


@torch.no_grad()
def encode_views(
    vae: AutoencoderTiny, images: LabelledImages, resolution: int, views: int, seed: int
) -> Float[Tensor, "views n c h w"]:
    """Latents of every image (fp16): whole, mirrored, and random crops of at least 80 % of the side."""
    device = next(vae.parameters()).device
    latents = []
    for start in tqdm(range(0, len(images.pixels), 256), desc="latents", unit="batch", mininterval=5.0):
        pixels = images.pixels[start : start + 256].to(device)
        whole = resize(to_signed(pixels), resolution)
        draws = [step_generator(seed, start + i, device) for i in range(views - 2)]
        crops = (random_views(pixels, resolution, SMALLEST_VIEW, draw) for draw in draws)
        seen = (whole, whole.flip(-1), *crops)[:views]
        latents.append(torch.stack([vae.encode(view, return_dict=False)[0].half().cpu() for view in seen]))
    return torch.cat(latents, dim=1)


def split_parameters(modules: dict[str, nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(hidden matrices, all else): matrices inside the blocks learn by Muon, the rest by AdamW."""
    hidden, other = [], []
    for module in modules.values():
        for name, parameter in module.named_parameters():
            inside = "block" in name or ".layer" in name
            (hidden if inside and parameter.ndim == 2 else other).append(parameter)
    return hidden, other


def build_optimizers(modules: dict[str, nn.Module], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, scaled to AdamW's step size, and AdamW for everything else."""
    hidden, other = split_parameters(modules)
    fused = all(parameter.is_cuda for parameter in other)
    return [
        torch.optim.Muon(hidden, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(other, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=fused),
    ]


def train_denoiser(
    objective: Objective, latents: Float[Tensor, "views n c h w"], images: LabelledImages, run: Run
) -> Iterator[tuple[TrainingState, dict[str, nn.Module]]]:
    """Train until the schedule ends; after each checkpoint, yield the state and the averaged (EMA) modules.

    Latents and labels lie on the device, and all random numbers are drawn there.
    """
    schedule, device = run.schedule, torch.device(run.device)
    layout = torch.channels_last if on_gpu(run.device) else None
    for module in objective.modules.values():
        module.to(device=device, memory_format=layout).train()  # pyright: ignore
    averaged = {key: copy.deepcopy(module).eval() for key, module in objective.modules.items()}
    modules = objective.modules | {f"{key}_ema": module for key, module in averaged.items()}
    state = TrainingState(modules, build_optimizers(objective.modules, schedule.rate))
    captions, weights = caption_tokens().to(device), images.weights().to(device)
    latents, labels = latents.to(device), images.labels.to(device)
    mixed = mixed_precision(device)

    def average(*_: object) -> None:
        update_average(averaged, objective.modules, ema_decay(state.step + 1))

    state.optimizers[-1].register_step_post_hook(average)

    def step_loss(step: int) -> Tensor:
        draw = step_generator(schedule.seed, step, device)
        chosen = draw_rows(weights, schedule.batch, draw)
        view = torch.randint(len(latents), (schedule.batch,), generator=draw, device=device)
        which = draw_captions(labels[chosen], draw)
        with mixed():
            return objective.loss(latents[view, chosen].float(), captions, which, draw)

    with quick_numbers(run.device):
        if run.compiled:
            compile_network(objective, lambda: step_loss(0))
        for _ in training_loop(run, state, step_loss):
            yield state, averaged


def ema_decay(step: int) -> float:
    """β = (1 − 1/t)^(γ + 1) of the t-th step: step τ weighs as τᵞ in the average (Karras et al. 2024).

    A window that grows with the run: what a continued run started from fades from its average, where one of
    fixed length would mix two minima.
    """
    return (1 - 1 / step) ** (EMA_POWER + 1)


@torch.no_grad()
def update_average(averaged: dict[str, nn.Module], modules: dict[str, nn.Module], decay: float) -> None:
    """Exponential moving average of every parameter: ā ← decay·ā + (1 − decay)·a."""
    for key, module in modules.items():
        torch._foreach_lerp_(list(averaged[key].parameters()), list(module.parameters()), 1 - decay)
