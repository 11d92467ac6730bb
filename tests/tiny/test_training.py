"""The trainer on a handful of random images: it learns, resumes exactly, and exports what loads."""

import contextlib
import json
import signal
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open

from tests.small import SMALL
from tokenrank_guidance.tiny import autoencoder, export
from tokenrank_guidance.tiny.architecture import LATENT_CHANNELS, build_autoencoder, build_pipeline
from tokenrank_guidance.tiny.autoencoder import fold_whitening, train_autoencoder
from tokenrank_guidance.tiny.dataset import LabelledImages, load_images, random_views
from tokenrank_guidance.tiny.denoiser import (
    all_captions,
    caption_tokens,
    draw_captions,
    ema_decay,
    encode_views,
    train_denoiser,
    update_average,
)
from tokenrank_guidance.tiny.export import export_pipeline
from tokenrank_guidance.tiny.loader import load_folder
from tokenrank_guidance.tiny.objective import RectifiedFlow, VPrediction
from tokenrank_guidance.tiny.progress import Run, Schedule
from tokenrank_guidance.tiny.speed import quick_numbers
from tokenrank_guidance.tiny.tokenizer import LABELS

# Mixed precision on a CPU: torch remarks that it cannot fuse the norm.
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")
OBJECTIVES = {"tiny-flux": RectifiedFlow, "tiny-sd": VPrediction}
QUICK = ["tiny-flux", pytest.param("tiny-sd", marks=pytest.mark.extended)]


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=draw)
    return LabelledImages(pixels, torch.arange(20) % len(LABELS))


@pytest.fixture
def latents():
    return torch.randn(4, 20, LATENT_CHANNELS, 8, 8, generator=torch.Generator().manual_seed(1)).half()


def trained(name, latents, images, steps, checkpoint, total=4, compiled=False):
    """Train `steps` of `total` steps from the checkpoint, as a run that is stopped within the next one."""
    torch.manual_seed(0)
    objective = OBJECTIVES[name](build_pipeline(name, 32, SMALL))
    schedule = Schedule(images=4 * total, batch=4, rate=1e-3, warmup=2)
    losses = []

    class Stop(BaseException):
        pass

    real = objective.loss

    def loss(*arguments):
        if len(losses) == steps:
            raise Stop
        losses.append(0)
        return real(*arguments)

    objective.loss = loss
    averaged = []
    with contextlib.suppress(Stop):
        stages = train_denoiser(
            objective, latents, images, Run(name, schedule, checkpoint, compiled=compiled)
        )
        averaged = [modules for _, modules in stages]
    return objective.modules | {f"{key}_ema": module for key, module in (averaged or [{}])[-1].items()}


@pytest.mark.parametrize("name", QUICK)
def test_a_stopped_run_resumes_to_the_same_weights(name, latents, images, tmp_path):
    straight = trained(name, latents, images, 4, tmp_path / "straight.safetensors")
    trained(name, latents, images, 2, tmp_path / "resumed.safetensors")
    resumed = trained(name, latents, images, 2, tmp_path / "resumed.safetensors")
    assert straight.keys() == resumed.keys()
    for part, module in straight.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, resumed[part].state_dict()[key]), (part, key)


def test_an_interrupt_waits_for_its_step(latents, images, tmp_path):
    torch.manual_seed(0)
    objective = RectifiedFlow(build_pipeline("tiny-flux", 32, SMALL))
    real, path = objective.loss, tmp_path / "c.safetensors"

    def loss(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    objective.loss = loss
    handler = signal.getsignal(signal.SIGTERM)
    stages = train_denoiser(objective, latents, images, Run("tiny-flux", Schedule(64, 4, 1e-3), path))
    with pytest.raises(KeyboardInterrupt):
        next(stages)
    assert signal.getsignal(signal.SIGTERM) is handler
    with safe_open(path, "pt") as file:
        assert file.metadata()["step"] == "1"


@pytest.mark.parametrize("name", QUICK)
def test_training_lowers_the_loss(name, images, tmp_path):
    latents = torch.zeros(1, 20, LATENT_CHANNELS, 8, 8).half()  # learnable: the image is always black
    torch.manual_seed(0)
    objective = OBJECTIVES[name](build_pipeline(name, 32, SMALL))
    schedule = Schedule(images=8 * 20, batch=8, rate=3e-3, warmup=2)

    def evaluate():
        draw = torch.Generator().manual_seed(5)
        with torch.no_grad():
            batch = latents[0, :16].float()
            return objective.loss(batch, caption_tokens(), torch.arange(16), draw).item()

    before = evaluate()
    for _ in train_denoiser(objective, latents, images, Run(name, schedule, tmp_path / "c.safetensors")):
        pass
    assert evaluate() < 0.9 * before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(latents, images, tmp_path):
    torch.manual_seed(0)
    objective = RectifiedFlow(build_pipeline("tiny-flux", 32, SMALL))
    objective.loss = lambda *arguments: torch.tensor(float("nan"), requires_grad=True)
    run = Run("tiny-flux", Schedule(images=8, batch=4, rate=1e-3), tmp_path / "c.safetensors")
    with pytest.raises(FloatingPointError, match="resume with a lower --rate"):
        next(train_denoiser(objective, latents, images, run))
    assert (tmp_path / "c.safetensors").exists()


@pytest.mark.extended
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("works", [True, False])
def test_a_network_is_compiled_or_the_reason_is_said(
    name, works, latents, images, tmp_path, monkeypatch, capsys
):
    """The trial changes nothing: the run with it gives the weights of the run without."""
    calls = []

    def compiled(network):
        def call(*arguments, **options):
            calls.append(network)
            if not works:
                raise RuntimeError("no compiler\nand a long story")
            return network(*arguments, **options)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    plain = trained(name, latents, images, 1, tmp_path / "plain.safetensors", total=1)
    tried = trained(name, latents, images, 2, tmp_path / "tried.safetensors", total=1, compiled=True)
    said = capsys.readouterr().err
    assert len(calls) == (2 if works else 1)  # the trial and the step
    assert ("compiled in" in said) == works
    failed = "tiny training goes on without torch.compile, which failed: RuntimeError: no compiler\n"
    assert (failed[5:] in said) != works
    for part, module in plain.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, tried[part].state_dict()[key]), (part, key)


def test_numbers_are_quick_on_a_gpu_while_training_and_as_they_were_after_it():
    def flags():
        cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
        return cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cuda.cudnn_sdp_enabled()

    before = flags()
    with quick_numbers("cuda:0"):
        assert flags() == (True, True, True, False)
    assert flags() == before
    with quick_numbers("cpu"):
        assert flags() == before


def test_captions_are_dropped_and_belong_to_their_labels():
    labels = torch.arange(16).repeat(200)
    rows = draw_captions(labels, torch.Generator().manual_seed(0))
    texts = all_captions()
    assert 0.08 < (rows == len(texts) - 1).float().mean() < 0.12
    assert all(
        texts[row] == "" or texts[row].endswith(LABELS[label])
        for row, label in zip(rows, labels, strict=True)
    )


def test_folding_gives_latents_of_mean_0_and_variance_1():
    torch.manual_seed(0)
    model = build_autoencoder()
    whiten = torch.nn.BatchNorm2d(LATENT_CHANNELS, affine=False).eval()
    whiten.running_mean.copy_(torch.randn(LATENT_CHANNELS))
    whiten.running_var.copy_(torch.rand(LATENT_CHANNELS) + 0.5)
    x = torch.rand(2, 3, 24, 36) * 2 - 1
    with torch.no_grad():
        expected = whiten(model.encoder(x))
        assert torch.allclose(fold_whitening(model, whiten).encode(x).latents, expected, atol=1e-5)


def test_autoencoder_trains_and_encodes(images, tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "build_autoencoder", partial(build_autoencoder, SMALL))
    schedule = Schedule(images=16, batch=8, rate=1e-3, warmup=1)
    model = train_autoencoder(images, 16, Run("autoencoder", schedule, tmp_path / "autoencoder.safetensors"))
    views = encode_views(model, images, 16, 4, 0)
    assert views.shape == (4, 20, LATENT_CHANNELS, 4, 4)
    assert torch.equal(views, encode_views(model, images, 16, 4, 0))


def test_views_are_in_range_and_mirrored(images):
    views = random_views(images.pixels, 16, 0.5, torch.Generator().manual_seed(0))
    assert views.shape == (20, 3, 16, 16)
    assert views.min() >= -1
    assert views.max() <= 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_export_loads_without_network_and_samples(name, tmp_path):
    torch.manual_seed(0)
    pipe = build_pipeline(name, 32)
    facts = {"images": 0, "resolution": 32, "history": []}
    export_pipeline(pipe, {}, facts, tmp_path / name)
    loaded = load_folder(tmp_path / name)
    loaded.set_progress_bar_config(disable=True)
    image = loaded("a photo of a church", num_inference_steps=2).images[0]
    assert image.size == (32, 32)
    assert json.loads((tmp_path / name / "training.json").read_text()) == facts
    assert sum(file.stat().st_size for file in (tmp_path / name).rglob("*") if file.is_file()) < 24 * 2**20


@pytest.mark.parametrize("at", ["weights", "facts"])
def test_a_full_disk_is_named_and_leaves_the_model_as_it_was(at, tmp_path, monkeypatch):
    pipe = build_pipeline("tiny-sd", 32, SMALL)
    folder = tmp_path / "model"
    export_pipeline(pipe, {}, {"images": 1}, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def save(folder, **options):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "config.json").write_text("half of")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    def dumps(*arguments, **options):
        raise OSError(28, "No space left on device")

    target = (pipe, "save_pretrained", save) if at == "weights" else (export.json, "dumps", dumps)
    monkeypatch.setattr(*target)
    with pytest.raises(OSError, match=r"cannot write to \S+model: .*No space left on device"):
        export_pipeline(pipe, {}, {"images": 2}, folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(OSError, match=r"cannot write to \S+new"):
        export_pipeline(pipe, {}, {"images": 2}, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_unknown_labels_and_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no data file at"):
        load_images(tmp_path / "absent.parquet")
    with pytest.raises(ValueError, match="unknown embedded model 'tiny-dit'"):
        build_pipeline("tiny-dit", 64)


def profile(steps: int) -> np.ndarray:
    """The weight of each step's parameters in the average after `steps`."""
    weights = np.zeros(steps)
    for step in range(1, steps + 1):
        weights *= ema_decay(step)
        weights[step - 1] = 1 - weights.sum()
    return weights


def test_the_average_spans_a_twentieth_of_the_run():
    for steps in (400, 2000):
        weights, at = profile(steps), np.arange(1, steps + 1)
        assert weights.sum() == pytest.approx(1)
        mean = (weights * at).sum()
        assert np.sqrt((weights * (at - mean) ** 2).sum()) / steps == pytest.approx(0.05, rel=0.02)
        assert weights[-1] == weights.max()


def test_a_continued_run_forgets_the_average_it_started_from():
    old, new = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        old.weight.fill_(0.0)
        new.weight.fill_(1.0)
    for step in range(1201, 2001):
        update_average({"one": old}, {"one": new}, ema_decay(step))
    assert old.weight.item() == pytest.approx(1, abs=1e-3)
