"""The trainer on a handful of random images: it learns, resumes exactly, and exports what loads."""

import contextlib
import json
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.tiny.conftest import SMALL
from tokenrank_guidance.tiny import autoencoder, progress
from tokenrank_guidance.tiny.architecture import LATENT_CHANNELS, build_autoencoder, build_pipeline
from tokenrank_guidance.tiny.autoencoder import fold_whitening, train_autoencoder
from tokenrank_guidance.tiny.checkpoint import TrainingState
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
from tokenrank_guidance.tiny.progress import Run, Schedule, draw_rows, step_generator, training_loop
from tokenrank_guidance.tiny.speed import quick_numbers
from tokenrank_guidance.tiny.tokenizer import LABELS

# Mixed precision on a CPU: torch remarks that it cannot fuse the norm.
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")
OBJECTIVES = {"tiny-flux": RectifiedFlow, "tiny-sd": VPrediction}


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


@pytest.mark.parametrize("name", OBJECTIVES)
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


@pytest.mark.parametrize("name", OBJECTIVES)
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


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a test adds to `clock.now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Counted:
    """A model whose steps take `seconds` of a test's clock and have the losses `values`, and then 1.

    Step `stop` is interrupted.
    """

    def __init__(self, values=(), clock=None, seconds=0, stop=None):
        self.module, self.values = torch.nn.Linear(1, 1), list(values)
        self.clock, self.seconds, self.stop, self.steps = clock or SimpleNamespace(now=0), seconds, stop, []

    def loss(self, step):
        self.clock.now += self.seconds
        if step == self.stop:
            raise KeyboardInterrupt
        self.steps.append(step)
        value = self.values.pop(0) if self.values else 1.0
        return value * (1 + 0 * self.module.weight.sum())

    def run(self, path, **schedule):
        state = TrainingState({"one": self.module}, [torch.optim.SGD(self.module.parameters(), lr=1.0)])
        given = Schedule(**{"images": None, "batch": 2, "rate": 1.0, "warmup": 1} | schedule)
        return state, training_loop(Run("tiny-sd", given, path), state, self.loss)


def test_a_run_by_the_clock_ends_when_its_minutes_are_over_and_counts_on_when_resumed(clock, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        list(Counted(clock=clock, seconds=10, stop=2).run(path, minutes=1)[1])
    clock.now += 500  # of whatever lies between two runs
    second = Counted(clock=clock, seconds=10)
    state, loop = second.run(path, minutes=1)
    assert list(loop) == [6]
    assert (state.seconds, second.steps) == (60, [2, 3, 4, 5])


def test_the_clock_stands_still_while_results_are_written(clock, tmp_path):
    state, loop = Counted(clock=clock, seconds=50).run(tmp_path / "c.safetensors", minutes=5)
    saves = 0
    for _ in loop:
        clock.now += 1000
        saves += 1
    assert (state.step, state.seconds, saves) == (6, 300, 2)


def test_a_line_says_how_far_a_run_is(clock, tmp_path, capsys):
    list(Counted([2.0, 4.0], clock, seconds=8).run(tmp_path / "c.safetensors", images=6)[1])
    assert capsys.readouterr().err.splitlines() == [
        "tiny-sd: 4 images seen, 66.7%, 0 images/s, loss 3.0000",
        "tiny-sd: 6 images seen, 100.0%, 0 images/s, loss 2.3333",
    ]


@pytest.mark.parametrize("schedule", [{"images": 40}, {"images": 40, "milestones": (4,)}])
def test_a_loss_that_a_gpu_shows_late_is_never_saved(schedule, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)  # no step looks at its own loss
    counted, path = Counted([1.0, float("nan"), 1.0]), tmp_path / "c.safetensors"
    with pytest.raises(FloatingPointError, match="the training loss became nan; resume with a lower --rate"):
        list(counted.run(path, **schedule)[1])
    assert not path.exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    counted, path = Counted(), tmp_path / "c.safetensors"
    with torch.no_grad():
        counted.module.bias.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"^module\.one\.bias is no longer finite"):
        list(counted.run(path, images=2)[1])
    assert not path.exists()


def test_a_resumed_optimizer_keeps_its_state_in_the_order_of_the_weights(tmp_path):
    def run():
        conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return conv, TrainingState({"conv": conv}, [torch.optim.AdamW(conv.parameters(), fused=True)])

    conv, state = run()
    conv(torch.rand(1, 3, 5, 5)).sum().backward()
    state.optimizers[0].step()
    state.save(tmp_path / "c.safetensors")
    again, resumed = run()
    resumed.load(tmp_path / "c.safetensors")
    kept, before = (s.optimizers[0].state[c.weight]["exp_avg"] for s, c in ((resumed, again), (state, conv)))
    assert kept.stride() == again.weight.stride() == before.stride()
    assert torch.equal(kept, before)


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


def test_rows_are_drawn_by_their_weights_and_never_twice():
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    draws = [draw_rows(weights, 2, step_generator(0, step)) for step in range(4000)]
    assert all(len(set(rows.tolist())) == 2 for rows in draws)
    first = torch.bincount(torch.stack([rows[0] for rows in draws]), minlength=4) / len(draws)
    assert torch.allclose(first, weights / 10, atol=0.03)


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


def test_checkpoint_survives_a_failed_write(tmp_path, monkeypatch):
    module = torch.nn.Linear(2, 2)
    path = tmp_path / "c.safetensors"
    state = TrainingState({"module": module}, [torch.optim.AdamW(module.parameters())])
    state.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(
        "tokenrank_guidance.files.writing.os.replace", lambda *_: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(OSError):  # noqa: PT011 - any will do
        state.save(path)
    assert path.read_bytes() == before


def test_unknown_labels_and_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no data file at"):
        load_images(tmp_path / "absent.parquet")
    with pytest.raises(ValueError, match="unknown embedded model 'tiny-dit'"):
        build_pipeline("tiny-dit", 64)


def test_schedule_rises_stays_and_falls():
    schedule = Schedule(images=1000, batch=10, rate=1.0, warmup=10, cooldown=0.25)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[50] == 1.0
    assert factors[-1] == pytest.approx(1 / 25)


def test_a_schedule_by_the_clock_rises_by_steps_and_falls_by_time():
    schedule = Schedule(None, 10, 1.0, warmup=10, cooldown=0.35, minutes=10)
    assert schedule.factor(4, 300) == pytest.approx(0.5)
    assert schedule.factor(400, 389) == 1.0
    assert schedule.factor(400, 495) == pytest.approx(0.5)
    assert [schedule.part(10**6, seconds) >= 1 for seconds in (599, 600)] == [False, True]


@pytest.mark.parametrize("given", [{"images": None}, {"images": 8, "minutes": 1.0}, {"images": 3}])
def test_a_schedule_of_no_length_or_of_two_is_refused(given):
    with pytest.raises(ValueError, match="expected"):
        Schedule(batch=4, rate=1.0, **given)


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
