"""What an embedded model is measured by."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModelForImageClassification

from tokenrank_guidance.devices import usable_device
from tokenrank_guidance.files.digest import pipeline_digest
from tokenrank_guidance.files.pretrained import load_part, load_weights
from tokenrank_guidance.files.writing import RESULT, staged
from tokenrank_guidance.interval import wilson
from tokenrank_guidance.program import results_stream
from tokenrank_guidance.provenance import provenance
from tokenrank_guidance.report import Json, to_json
from tokenrank_guidance.tiny.dataset import pictures, read_rows, resize
from tokenrank_guidance.tiny.evaluate.options import parse
from tokenrank_guidance.tiny.loader import load_folder, load_pipeline
from tokenrank_guidance.tiny.sampling import sample_images

IMAGENETTE = {
    "tench": 0,
    "English springer": 217,
    "cassette player": 482,
    "chain saw": 491,
    "church": 497,
    "French horn": 566,
    "garbage truck": 569,
    "gas pump": 571,
    "golf ball": 574,
    "parachute": 701,
}
BATCH, WNID = 50, "wnid"


class Classifier:
    """An ImageNet-1k classifier that chooses among the ten Imagenette classes."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        model = load_weights(AutoModelForImageClassification, folder, dtype=torch.float32)
        self.model = model.eval().to(device)
        self.processor = load_part(AutoImageProcessor, folder)

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, " b"]:
        """Position in `IMAGENETTE` of the likeliest class; images are in [−1, 1], of any device."""
        images = images.to(self.model.device)
        side = self.processor.size["height"]
        large = (
            F.interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1) / 2 + 0.5
        )
        mean, std = (
            images.new_tensor(values).view(3, 1, 1)
            for values in (self.processor.image_mean, self.processor.image_std)
        )
        logits = self.model((large - mean) / std).logits
        return logits[:, list(IMAGENETTE.values())].argmax(-1).cpu()


def to_tensor(images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def held_out(path: Path, resolution: int) -> Iterator[tuple[Float[Tensor, "b 3 s s"], Int[Tensor, " b"]]]:
    """Batches of Imagenette validation images, centre-cropped to `resolution`, and their classes."""
    rows = read_rows(path)
    if WNID not in rows.column_names:
        raise ValueError(
            f"{path} has no column {WNID!r} of WordNet ids, by which Imagenette's classes are known; "
            f"it has {', '.join(rows.column_names)}"
        )
    wnids = sorted(set(rows[WNID]))  # ImageNet's class order is that of the sorted WordNet ids
    if len(wnids) != len(IMAGENETTE):
        raise ValueError(f"{path} holds {len(wnids)} classes; expected Imagenette's {len(IMAGENETTE)}")
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        decoded = pictures(batch["image"], path, start)
        crops = [resize(to_tensor([_square(image)]), resolution) for image in decoded]
        yield torch.cat(crops), torch.tensor([wnids.index(wnid) for wnid in batch[WNID]])


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def samples(
    pipe: DiffusionPipeline, n: int, seed: int, scale: float
) -> Iterator[tuple[Float[Tensor, "b 3 s s"], Int[Tensor, " b"]]]:
    """Batches of samples, the classes taking turns, image i from seed + i."""
    for start in range(0, n, BATCH):
        classes = [i % len(IMAGENETTE) for i in range(start, min(start + BATCH, n))]
        prompts = [f"a photo of a {list(IMAGENETTE)[i]}" for i in classes]
        yield to_tensor(sample_images(pipe, prompts, seed + start, scale=scale)), torch.tensor(classes)


@torch.no_grad()
def evaluate(pipe: DiffusionPipeline, classifier: Classifier, options: argparse.Namespace) -> Json:
    """The report's results; images are held-out ones, those through the autoencoder, and samples."""
    resolution = pipe.default_sample_size * pipe.vae_scale_factor

    def autoencode(images: Tensor) -> Tensor:
        return pipe.vae(images.to(pipe.device)).sample.clamp(-1, 1).cpu()

    real = list(held_out(options.data, resolution))
    arms = {
        "samples": samples(pipe, options.n, options.seed, options.scale),
        "held_out": iter(real),
        "autoencoded": ((autoencode(images), classes) for images, classes in real),
    }
    rows: list[Json] = []
    for name, batches in arms.items():
        hits = [classifier(images) == classes for images, classes in tqdm(batches, desc=name, unit="batch")]
        right = torch.cat(hits)
        rows.append({"images": name, "n": len(right), "accuracy": wilson(int(right.sum()), len(right))})
    errors = [F.mse_loss(autoencode(images), images).item() for images, _ in real]
    decibels = float(10 * np.log10(4 / np.mean(errors)))
    return {
        "results": rows,
        "differences": [],
        "chance": 1 / len(IMAGENETTE),
        "autoencoder_psnr_db": decibels,
        "resolution": resolution,
    }


def main(argv: Sequence[str]) -> None:
    """Evaluate as the arguments say, and print the report."""
    print(run(parse(argv)), end="", file=results_stream(), flush=True)


def run(options: argparse.Namespace) -> str:
    """Evaluate, and return the report as it was written; ValueError or OSError for what cannot be loaded."""
    folder, options.device = Path(options.model), usable_device(options.device)
    pipe = load_folder(folder) if folder.is_dir() else load_pipeline(options.model)
    pipe.to(options.device)
    with nullcontext() if options.out is None else staged(options.out) as kept:
        classifier = Classifier(options.classifier, options.device)
        config = vars(options) | {"weights": pipeline_digest(pipe)}
        head = provenance(config, options.seed, options.n)
        report = to_json(head | evaluate(pipe, classifier, options)) + "\n"
        if kept is not None:
            (kept / RESULT).write_text(report)
    return report
