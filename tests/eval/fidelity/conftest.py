"""A tiny classifier, random features, and arms on disk as `eval.generate` leaves them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from eval.fidelity.extractor import extractor_of
from eval.generate.store import ArmStore, image_path

CLASSES = ("tench", "church", "golf ball")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    """The folder of a random ViT of 16 features that tells `CLASSES` apart."""
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: i for i, name in enumerate(CLASSES)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(config)
        torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def extractor(classifier):
    model = ViTForImageClassification.from_pretrained(classifier).eval()
    return extractor_of(model, ViTImageProcessor.from_pretrained(classifier))


@pytest.fixture
def arm(tmp_path):
    """`arm(name, n, shift)`: the folder of an arm of random images, brighter by `shift`."""

    def folder(name: str = "none", n: int = 24, shift: int = 0, seed: int = 0) -> Path:
        path = tmp_path / "arms" / name
        for i in range(n):
            target = image_path(path, i, "png")
            target.parent.mkdir(parents=True, exist_ok=True)
            noise(i + 1000 * seed, shift).save(target)
        entries = {"seed": seed, "prompts": list(CLASSES), "labels": list(CLASSES), "digest": "d"}
        cost = {"denoiser_evaluations": 6.0, "seconds_per_image": 0.1}
        run = {"command": "python -m eval.generate", "commit": None}
        ArmStore(path, {"weights": "beef"}).write_manifest(name, n, entries | {"cost": cost} | run)
        return path

    return folder


def noise(seed: int, shift: int = 0, side: int = 16) -> Image.Image:
    """A random image with a random colour."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, size=(side, side, 3)) + rng.integers(120, size=3) + shift
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def random_features(n: int, seed: int, shift: float = 0.0, d: int = 6) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "features": torch.randn(n, d, generator=g) + shift,
        "logits": 2 * torch.randn(n, 5, generator=g),
    }


def loaded(path: Path) -> dict:
    return json.loads(path.read_text())
