"""Training of the autoencoder that both embedded models share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.tiny.architecture import LATENT_CHANNELS, build_autoencoder
from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.dataset import LabelledImages, random_views
from tokenrank_guidance.tiny.progress import Run, draw_rows, step_generator, training_loop
from tokenrank_guidance.tiny.speed import mixed_precision, on_gpu, quick_numbers

SMALLEST_VIEW = 0.6
LATENT_NOISE = 0.05  # a denoiser's latents are never exact: the decoder learns to forgive


def train_autoencoder(images: LabelledImages, resolution: int, run: Run) -> AutoencoderTiny:
    """Train on random views until the schedule ends and return the model with normalised latents.

    A `BatchNorm` without parameters sits between encoder and decoder; its statistics are folded into the
    encoder's last convolution, so latents have mean 0 and variance 1 and need no scaling factor.
    """
    schedule, device = run.schedule, torch.device(run.device)
    torch.manual_seed(schedule.seed)
    model = build_autoencoder()
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore
    whiten = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.01).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=on_gpu(run.device)
    )
    state = TrainingState({"model": model, "whiten": whiten}, [optimizer])
    mixed = mixed_precision(device)
    pixels, weights = images.pixels.to(device), images.weights().to(device)

    def step_loss(step: int) -> Tensor:
        draw = step_generator(schedule.seed, step, device)
        chosen = draw_rows(weights, schedule.batch, draw)
        views = random_views(pixels[chosen], resolution, SMALLEST_VIEW, draw)
        with mixed():
            latents = whiten(model.encoder(views.contiguous(memory_format=torch.channels_last)).float())
            noise = LATENT_NOISE * torch.randn(latents.shape, generator=draw, device=device)
            decoded = model.decoder(latents + noise)
        return reconstruction_loss(decoded.float(), views)

    with quick_numbers(run.device):
        for _ in training_loop(run, state, step_loss):
            pass
    return fold_whitening(model, whiten).eval()


def reconstruction_loss(decoded: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Mean squared error plus the L1 error of each band of a Laplacian pyramid, which keeps edges sharp."""
    error = decoded - target
    loss = error.square().mean()
    for _ in range(3):
        coarse = F.avg_pool2d(error, 2)
        loss = loss + 0.5 * (error - F.interpolate(coarse, scale_factor=2.0)).abs().mean()
        error = coarse
    return loss


def fold_whitening(model: AutoencoderTiny, whiten: nn.BatchNorm2d) -> AutoencoderTiny:
    """Scale and shift the encoder's last convolution so that it gives z' = (z − mean) / std itself."""
    last, mean, variance = model.encoder.layers[-1], whiten.running_mean, whiten.running_var
    assert isinstance(last, nn.Conv2d) and last.bias is not None and mean is not None and variance is not None
    scale = torch.rsqrt(variance + whiten.eps)
    with torch.no_grad():
        last.weight.mul_(scale.view(-1, 1, 1, 1))
        last.bias.sub_(mean).mul_(scale)
    return model
