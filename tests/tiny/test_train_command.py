"""The trainer's command from pictures to a pipeline that loads, and on from there."""

import json
from functools import partial

import datasets
import numpy as np
import pytest
from PIL import Image

from tokenrank_guidance.program import program
from tokenrank_guidance.tiny.loader import load_folder
from tokenrank_guidance.tiny.sampling import sample_images
from tokenrank_guidance.tiny.tokenizer import LABELS
from tokenrank_guidance.tiny.train import command as trainer

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")

run = partial(program, "tokenrank_guidance.tiny.train")


@pytest.fixture
def data(tmp_path):
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in 2 * LABELS]
    path = tmp_path / "pictures.parquet"
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"image": images, "label": 2 * list(LABELS)}).to_parquet(path)
    return path


def autoencoder(folder):
    return (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()


def weights(folder):
    return (folder / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()


def command(data, folder, *more, name="tiny-flux"):
    sizes = ["--resolution", "32", "--images", "8", "--batch", "4"]
    if not {"--start-from", "--autoencoder"} & set(more):
        sizes += ["--autoencoder-images", "32"]
    return [name, "--data", str(data), "--checkpoints", str(folder), *sizes, *map(str, more)]


def test_a_run_leaves_a_pipeline_its_pictures_and_checkpoints(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "sample_images", partial(sample_images, steps=1))
    monkeypatch.setattr(trainer, "FINAL_COLUMNS", 1)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(command(data, tmp_path / "checkpoints", "--out", first)) == 0
    assert json.loads((first / "training.json").read_text())["images"] == 8
    with Image.open(first / "samples.png") as sheet:
        assert sheet.height == len(LABELS) * 34  # at the pipeline's own size
    assert (first / "loss.png").stat().st_size > 0
    assert load_folder(first)("a church", num_inference_steps=1).images[0].size == (32, 32)
    for name, option in (("tiny-flux", "--start-from"), ("tiny-sd", "--autoencoder")):
        onward = command(data, tmp_path / name, "--out", second / name, option, first, name=name)
        assert run(onward) == 0
        assert autoencoder(second / name) == autoencoder(first)


def test_milestones_are_kept_beside_the_checkpoint(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "sample_images", partial(sample_images, steps=1))
    monkeypatch.setattr(trainer, "FINAL_COLUMNS", 1)
    assert run(command(data, tmp_path, "--milestones", "3,8", "--out", tmp_path / "out")) == 0
    kept = {images: tmp_path / "32" / f"tiny-flux-{images}" for images in (4, 8)}  # whole batches of 4
    for images, folder in kept.items():
        assert json.loads((folder / "training.json").read_text())["images"] == images
    first, last, out = (weights(folder) for folder in (*kept.values(), tmp_path / "out"))
    assert first != last == out


@pytest.mark.parametrize("given", ["0", "many", "10,,20"])
def test_milestones_that_are_none_are_named(given, data, tmp_path, capsys):
    assert run(command(data, tmp_path, "--milestones", given)) == 2
    assert f"got {given!r}; expected numbers of images" in capsys.readouterr().err


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert run(command(tmp_path / "absent.parquet", tmp_path)) == 2
    assert capsys.readouterr().err.startswith("error: no data file at")
