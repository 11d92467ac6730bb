"""Pictures of a training run: samples of every class, and the loss curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw

from tokenrank_guidance.calls import Job
from tokenrank_guidance.drawing import contact_sheet
from tokenrank_guidance.tiny.speed import on_gpu
from tokenrank_guidance.tiny.tokenizer import LABELS

MARGIN, GAP = 110, 2
GPU_BATCH, CPU_BATCH = 64, 8
Sampler = Callable[[DiffusionPipeline, Sequence[Job]], list[Image.Image]]


def sample_sheet(pipe: DiffusionPipeline, sample: Sampler, columns: int, seed: int) -> Image.Image:
    """One row of `columns` samples per label, from the same seeds in each row, with the label in front."""
    jobs = [Job(f"a photo of a {label}", seed + i) for label in LABELS for i in range(columns)]
    size = GPU_BATCH if on_gpu(pipe.device) else CPU_BATCH
    batches = (jobs[start : start + size] for start in range(0, len(jobs), size))
    drawn = [image for batch in batches for image in sample(pipe, batch)]
    samples, side = contact_sheet(drawn, columns, GAP), drawn[0].height
    sheet = Image.new("RGB", (MARGIN + samples.width + GAP, samples.height + GAP), "white")
    sheet.paste(samples, (MARGIN, 0))
    draw = ImageDraw.Draw(sheet)
    for i, label in enumerate(LABELS):
        draw.text((4, i * (side + GAP) + side // 2 - 6), label, fill="black")
    return sheet


def loss_curve(history: list[list[float]], title: str, path: Path) -> None:
    """Write the training loss against images seen, raw and as a running mean, to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    seen, loss = torch.tensor(history, dtype=torch.float64).T
    width = max(1, len(loss) // 40)
    kernel = torch.ones(1, 1, width, dtype=torch.float64) / width
    smooth = torch.nn.functional.conv1d(loss.view(1, 1, -1), kernel).flatten()
    figure, axes = plt.subplots(figsize=(6, 3.2), constrained_layout=True)
    axes.plot(seen / 1000, loss, color="0.8", linewidth=1)
    axes.plot(seen[width - 1 :] / 1000, smooth, color="C0", linewidth=1.8)
    low, high = torch.quantile(loss, torch.tensor([0.0, 0.97], dtype=torch.float64)).tolist()
    axes.set(xlabel="training images (thousands)", ylabel="loss", title=title, ylim=(0.97 * low, 1.05 * high))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
