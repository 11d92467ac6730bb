"""The trainer's command from pictures to a pipeline that loads, and on from there."""

import json
from functools import partial

import datasets
import numpy as np
import pytest
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import load_file

from tests.small import SMALL
from tokenrank_guidance.program import program
from tokenrank_guidance.tiny import autoencoder as autoencoders
from tokenrank_guidance.tiny.architecture import Size, build_autoencoder, build_pipeline
from tokenrank_guidance.tiny.loader import load_folder
from tokenrank_guidance.tiny.sampling import sample_jobs
from tokenrank_guidance.tiny.tokenizer import LABELS, MAX_TOKENS
from tokenrank_guidance.tiny.train import command as trainer
from tokenrank_guidance.tiny.train.options import parse

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")

run = partial(program, "tokenrank_guidance.tiny.train")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in 3 * LABELS]
    path = tmp_path_factory.mktemp("data") / "pictures.parquet"
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"image": images, "label": 3 * list(LABELS)}).to_parquet(path)
    return path


WORDS = []  # how many tokens of text each pipeline whose pictures were drawn gives its denoiser


def noted(pipe, jobs):
    if isinstance(pipe, FluxPipeline):
        WORDS.append(pipe.encode_prompt("a photo of a church", None)[0].shape[1])
    return sample_jobs(pipe, jobs, steps=1)


@pytest.fixture(scope="module", autouse=True)
def small_and_quick():
    """Networks that any CPU trains in no time, and pictures of one step."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "build_pipeline", partial(build_pipeline, size=SMALL))
        patched.setattr(autoencoders, "build_autoencoder", partial(build_autoencoder, SMALL))
        patched.setattr(trainer, "sample_jobs", noted)
        patched.setattr(trainer, "FINAL_COLUMNS", 1)
        yield


@pytest.fixture(scope="module")
def trained(data, small_and_quick, tmp_path_factory):
    """The folder with the results of one run, with milestones: `out`, and `32` with what is kept beside."""
    folder = tmp_path_factory.mktemp("trained")
    assert run(command(data, folder, "--milestones", "3,8", "--out", folder / "out")) == 0
    return folder


def weights(folder, part="transformer"):
    return load_file(folder / part / "diffusion_pytorch_model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)


def command(data, folder, *more, name="tiny-flux"):
    sizes = ["--resolution", "32", "--batch", "4", "--views", "3"]
    if "--minutes" not in more:
        sizes += ["--images", "8"]
    if not {"--start-from", "--autoencoder"} & set(more):
        sizes += ["--autoencoder-images", "48"]
    return [name, "--data", str(data), "--checkpoints", str(folder), *sizes, *map(str, more)]


@pytest.mark.extended
def test_a_run_leaves_a_pipeline_its_pictures_and_its_history(trained):
    out = trained / "out"
    facts = json.loads((out / "training.json").read_text())
    assert (facts["images"], facts["history"][-1][0]) == (8, 8)
    assert facts["seconds"] > 0
    with Image.open(out / "samples.jpg") as sheet:
        assert sheet.height == len(LABELS) * 34  # at the pipeline's own size
    assert set(WORDS) == {MAX_TOKENS}  # as in training: the pipeline's own default would be 512
    assert (out / "loss.png").stat().st_size > 0
    assert load_folder(out)("a church", num_inference_steps=1).images[0].size == (32, 32)


@pytest.mark.extended
def test_milestones_are_kept_beside_the_checkpoint(trained):
    kept = {images: trained / "32" / f"tiny-flux-{images}" for images in (4, 8)}  # whole batches of 4
    for images, folder in kept.items():
        assert json.loads((folder / "training.json").read_text())["images"] == images
    first, last, out = (weights(folder) for folder in (*kept.values(), trained / "out"))
    assert not same(first, last)
    assert same(last, out)


@pytest.mark.extended
def test_a_run_by_the_clock_takes_another_models_autoencoder(trained, data, tmp_path, capsys):
    clock = ("--autoencoder", trained / "out", "--minutes", "0.0005", "--out", tmp_path / "out")
    assert run(command(data, tmp_path, *clock, name="tiny-sd")) == 0
    facts = json.loads((tmp_path / "out" / "training.json").read_text())
    assert facts["seconds"] >= 0.03
    assert facts["images"] == facts["history"][-1][0] >= 4
    assert same(weights(tmp_path / "out", "vae"), weights(trained / "out", "vae"))
    assert f"tiny-sd: {facts['images']} images seen, 100.0%, " in capsys.readouterr().err


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="same size", marks=pytest.mark.extended),
        pytest.param(Size(16, (2, 1), 1, (64, 64)), id="another"),
    ],
)
def test_a_run_goes_on_from_all_networks_of_a_folder(size, data, tmp_path, request):
    if size == SMALL:
        folder = request.getfixturevalue("trained") / "out"
    else:
        folder = tmp_path / "from"
        build_pipeline("tiny-flux", 64, size).save_pretrained(folder)
    options = parse(command(data, tmp_path, "--start-from", folder))
    options.device = "cpu"
    pipe = trainer.starting_pipeline(options, trainer.obtain_autoencoder(options, None, tmp_path))
    assert pipe.default_sample_size == 8
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        (file,) = (folder / part).glob("*.safetensors")
        state = getattr(pipe, part).state_dict()
        for key, value in load_file(file).items():
            assert state[key].equal(value.float()), (part, key)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--batch", "49"], "holds 48 images; expected at least a batch of 49"),
        (["--start-from", "."], "there is no folder vae; expected a pipeline's with its AutoencoderTiny"),
        (["--minutes", "1", "--images", "4"], "--images would have no effect: --minutes says how long"),
    ],
)
def test_what_cannot_be_trained_is_one_line(more, reason, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["tiny-flux", "--data", str(data), "--checkpoints", str(tmp_path), "--batch", "8", *more]
    assert run(given) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.startswith("error: ") and said.count("\n") == 1


@pytest.mark.parametrize("given", ["0", "many", "10,,20"])
def test_milestones_that_are_none_are_named(given, data, tmp_path, capsys):
    assert run(command(data, tmp_path, "--milestones", given)) == 2
    assert f"got {given!r}; expected numbers of images" in capsys.readouterr().err


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert run(command(tmp_path / "absent.parquet", tmp_path)) == 2
    assert capsys.readouterr().err.startswith("error: no data file at")
