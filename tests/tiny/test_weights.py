"""The shipped models: what a user gets without network."""

import json
import warnings

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.tiny_models import denoiser
from tokenrank_guidance.tiny import LABELS, available_models, load_pipeline
from tokenrank_guidance.tiny.evaluate.command import IMAGENETTE, Classifier, samples
from tokenrank_guidance.tiny.loader import WEIGHTS
from tokenrank_guidance.tiny.sampling import sample_images

PROMPTS = ["a photo of a church", "a photo of a parachute"]


@pytest.fixture(scope="module", params=available_models())
def shipped(request):
    return load_pipeline(request.param)


def test_at_least_one_model_is_shipped():
    assert "tiny-flux" in available_models()


def test_the_weights_are_half_precision_safetensors_within_their_size():
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
    sizes = {
        name: sum(f.stat().st_size for f in (WEIGHTS / name).rglob("*") if f.is_file())
        for name in available_models()
    }
    assert all(size <= 24 * 2**20 for size in sizes.values()), sizes
    assert sum(sizes.values()) <= 48 * 2**20


def test_each_has_a_card_its_pictures_and_its_history(shipped):
    name = "tiny-flux" if hasattr(shipped, "transformer") else "tiny-sd"
    folder = WEIGHTS / name
    assert all((folder / file).is_file() for file in ("README.md", "samples.png", "loss.png"))
    facts = json.loads((folder / "training.json").read_text())
    assert facts["history"][-1][0] == facts["images"]


def test_prompts_make_a_difference_and_known_words_do_not_warn(shipped):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        first, second = sample_images(shipped, PROMPTS, seed=0, steps=4)
        (again,) = sample_images(shipped, PROMPTS[:1], seed=0, steps=4)
    assert first.size == (64, 64)
    assert first.tobytes() != second.tobytes()
    difference = torch.tensor(list(first.tobytes())).int() - torch.tensor(list(again.tobytes())).int()
    assert difference.abs().max() <= 2  # alone or in a batch: float rounding


def test_other_sizes_work(shipped):
    shipped.set_progress_bar_config(disable=True)
    image = shipped("a church", height=48, width=80, num_inference_steps=2).images[0]
    assert image.size == (80, 48)


def test_guidance_changes_the_samples_and_masks_part_of_the_image(shipped):
    plain = sample_images(shipped, PROMPTS, seed=1, steps=6)
    with SelfAttentionGuidance()(shipped) as guidance:
        guided = sample_images(shipped, PROMPTS, seed=1, steps=6)
    assert all(a.tobytes() != b.tobytes() for a, b in zip(plain, guided, strict=True))
    shares = torch.stack([step.mask.float().mean((1, 2)) for step in guidance.steps])
    assert shares.min() > 0.02
    assert shares.max() < 0.98
    assert not denoiser(shipped)._forward_hooks


def test_every_label_is_a_prompt(shipped):
    assert set(IMAGENETTE) < set(LABELS)
    assert len(LABELS) == 16


@pytest.mark.data
def test_a_real_classifier_recognises_the_samples(shipped, data_folder):
    classifier = Classifier(data_folder.parent / "models" / "vit-tiny-imagenet")
    ((images, classes),) = samples(shipped, 20, seed=100, scale=4.0)
    assert (classifier(images) == classes).float().mean() > 0.25  # chance is 0.1
