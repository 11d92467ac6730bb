"""The shipped models: what a user gets without network."""

import json
import re
import warnings
from functools import partial

import pytest
import torch
from safetensors import safe_open

from sag import SelfAttentionGuidance
from tests.tiny_models import denoiser
from tokenrank_guidance.tiny import LABELS, available_models, load_pipeline
from tokenrank_guidance.tiny.architecture import set_resolution
from tokenrank_guidance.tiny.evaluate import command
from tokenrank_guidance.tiny.evaluate.command import IMAGENETTE, Classifier, samples
from tokenrank_guidance.tiny.loader import WEIGHTS
from tokenrank_guidance.tiny.progress import LOG_EVERY
from tokenrank_guidance.tiny.sampling import sample_images

RESOLUTIONS = {"tiny-sd": 128, "tiny-flux": 128}
PROMPTS = ["a photo of a church", "a photo of a parachute"]


@pytest.fixture(scope="module", params=available_models())
def shipped(request):
    return load_pipeline(request.param)


def name_of(pipe):
    return "tiny-flux" if hasattr(pipe, "transformer") else "tiny-sd"


def test_both_models_are_shipped_and_the_better_one_is_what_is_loaded():
    assert available_models() == ("tiny-sd", "tiny-flux")
    assert name_of(load_pipeline()) == "tiny-sd"


def test_the_weights_are_half_precision_safetensors_within_their_size():
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
    sizes = {
        name: sum(f.stat().st_size for f in (WEIGHTS / name).rglob("*") if f.is_file())
        for name in available_models()
    }
    assert all(size <= 26e6 for size in sizes.values()), sizes
    assert sum(file.stat().st_size for file in files) <= 50e6
    for file in WEIGHTS.rglob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            assert {tensors.get_slice(key).get_dtype() for key in tensors.keys()} == {"F16"}  # noqa: SIM118


def test_each_has_a_card_its_pictures_and_its_history(shipped):
    folder = WEIGHTS / name_of(shipped)
    card = (folder / "README.md").read_text()
    for picture in re.findall(r"\]\((\S+?\.(?:png|jpg))\)", card):
        assert 0 < (folder / picture).stat().st_size < 1e6
    assert "![Loss]" in card
    assert "![Samples]" in card
    facts = json.loads((folder / "training.json").read_text())
    assert 0 <= facts["images"] - facts["history"][-1][0] < LOG_EVERY * facts["batch"]
    assert facts["resolution"] == shipped.default_sample_size * 4 == RESOLUTIONS[name_of(shipped)]


def test_prompts_make_a_difference_and_known_words_do_not_warn(shipped):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        first, second = sample_images(shipped, PROMPTS, seed=0, steps=2)
        (again,) = sample_images(shipped, PROMPTS[:1], seed=0, steps=2)
    assert first.size == (RESOLUTIONS[name_of(shipped)],) * 2
    assert first.tobytes() != second.tobytes()
    difference = torch.tensor(list(first.tobytes())).int() - torch.tensor(list(again.tobytes())).int()
    assert difference.abs().max() <= 2  # alone or in a batch: float rounding


def test_other_sizes_work(shipped):
    shipped.set_progress_bar_config(disable=True)
    image = shipped("a church", height=48, width=80, num_inference_steps=2).images[0]
    assert image.size == (80, 48)


@pytest.fixture
def at_64_px(shipped):
    """A shipped model at a size that is quicker, where size does not matter."""
    set_resolution(shipped, 64)
    yield shipped
    set_resolution(shipped, RESOLUTIONS[name_of(shipped)])


def test_guidance_changes_the_samples_and_masks_part_of_the_image(at_64_px):
    shipped = at_64_px
    plain = sample_images(shipped, PROMPTS, seed=1, steps=4)
    with SelfAttentionGuidance()(shipped) as guidance:
        guided = sample_images(shipped, PROMPTS, seed=1, steps=4)
    assert plain[0].size == (64, 64)
    assert all(a.tobytes() != b.tobytes() for a, b in zip(plain, guided, strict=True))
    shares = torch.stack([step.mask.float().mean((1, 2)) for step in guidance.steps])
    assert shares.min() > 0.02
    assert shares.max() < 0.98
    assert not denoiser(shipped)._forward_hooks


def test_every_label_is_a_prompt(shipped):
    assert set(IMAGENETTE) < set(LABELS)
    assert len(LABELS) == 16


@pytest.mark.data
@pytest.mark.extended
def test_a_real_classifier_recognises_the_samples(shipped, data_folder, monkeypatch):
    monkeypatch.setattr(command, "sample_images", partial(sample_images, steps=4))
    classifier = Classifier(data_folder.parent / "models" / "vit-tiny-imagenet")
    ((images, classes),) = samples(shipped, 10, seed=100, scale=4.0)
    assert (classifier(images) == classes).float().mean() > 0.25  # chance is 0.1
