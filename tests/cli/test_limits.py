"""Sizes, memory, numbers: refused or warned of before work starts, and what comes out is looked at."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg import DiffSeg
from eval.cli import program
from tests.eval.squares import write_squares
from tests.tiny_models import pipeline
from tokenrank_guidance import memory
from tokenrank_guidance.calls import Job, Sampling, call_arguments, finite_pictures
from tokenrank_guidance.commands import arms, models
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.memory import GIB
from tokenrank_guidance.sizes import size_step


@pytest.mark.parametrize(
    ("name", "step"), [("sd", "vae"), ("flux", "packed"), ("sd3", "patch"), ("ddpm", "pixel")]
)
def test_sides_are_multiples_of_a_token(name, step):
    pipe = pipeline(name)
    scale = 1 if step == "pixel" else 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    patch = {"packed": 2, "patch": 2}.get(step, 1)
    assert size_step(pipe) == scale * patch
    if name == "ddpm":
        return
    wrong = Sampling(1, height=32, width=32 + scale * patch // 2)
    with pytest.raises(UnsupportedError, match=f"width is {wrong.width}; .* multiples of {scale * patch}"):
        call_arguments(pipe, wrong, [Job("x", 0)])


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("height", 7, "height is 7"),
        ("height", 10**9, "GiB"),
        ("batch-size", 10_000, "GiB"),
        ("width", 2**62, "GiB"),
    ],
)
def test_sample_refuses_a_size_before_it_draws(tokenrank, model, tmp_path, monkeypatch, option, value, said):
    monkeypatch.setattr(arms.Study, "_draw_batch", None)
    if option == "batch-size":
        monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    given = ("--prompt", "x", "--device", "cpu", f"--{option}", value, "--n", 10_000)
    mistake = tokenrank("sample", "--model", model("sd"), *given, "--out", tmp_path / "o").mistake
    assert said in mistake
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ["segment", "explain"])
def test_reading_refuses_a_resolution_before_it_reads(tokenrank, model, tmp_path, command):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    more = ("--concepts", "x") if command == "explain" else ()
    given = ("--model", model("sd"), "--device", "cpu", "--resolution", 10**6, *more)
    assert "GiB" in tokenrank(command, tmp_path / "x.png", *given, "--out", tmp_path / "o").mistake


def test_the_estimate_is_what_is_free_and_what_is_held(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 * GIB)
    memory.check_memory(3 * GIB, "cpu", "two images")
    with pytest.raises(
        UnsupportedError, match=r"two images need at least 4\.0 GiB, and 3\.0 GiB are free on cpu"
    ):
        memory.check_memory(4 * GIB, "cpu", "two images")
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    memory.check_memory(2**80, "npu", "anything")


def test_free_memory_is_what_the_system_says():
    with open("/proc/meminfo") as lines:
        said = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    free = memory.free_bytes("cpu")
    assert free is not None
    assert 0 < free <= said["MemTotal"]


def test_an_estimate_is_a_lower_bound():
    """Of what a decoder really allocates, as torch's profiler counts it."""
    from tokenrank_guidance.sizes import held_bytes

    pipe = pipeline("sd")
    scale, channels = pipe.vae_scale_factor, pipe.vae.config.latent_channels
    latents = torch.randn(1, channels, 64 // scale, 64 // scale)
    with torch.profiler.profile(profile_memory=True) as profile:
        pipe.vae.decode(latents)
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert 0 < held_bytes(pipe, 64, 64, 1) <= allocated


@pytest.mark.parametrize(("name", "part"), [("sd", "vae"), ("ddpm", "unet")])
def test_pictures_of_nan_are_an_error_and_not_black(tokenrank, model, tmp_path, monkeypatch, name, part):
    load = models.load_model

    def broken(*given):
        loaded = load(*given)
        with torch.no_grad():
            last = [p for p in getattr(loaded.pipe, part).parameters() if p.ndim == 1][-1]
            last.fill_(torch.nan)
        return loaded

    monkeypatch.setattr(models, "load_model", broken)
    prompt = ("--prompt", "x") if name == "sd" else ()
    given = (
        *prompt,
        "--guidance",
        "none",
        "--steps",
        1,
        "--n",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "o",
    )
    run = tokenrank("sample", "--model", model(name), *given)
    assert run.code == 2
    assert "would be black" in run.err.splitlines()[-1]
    assert not (tmp_path / "o").exists()


def test_whole_pictures_pass():
    pipe = pipeline("sd")
    with finite_pictures(pipe):
        pipe("x", num_inference_steps=1, height=32, width=32)
    assert not pipe.vae.decoder._forward_hooks


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("option", ["cfg", "scale", "threshold", "rescale", "start"])
def test_numbers_that_are_none_are_refused(tokenrank, tmp_path, option, value):
    assert f"argument --{option}: expected a number" in tokenrank("sample", f"--{option}={value}").mistake


@pytest.mark.parametrize(("ratio", "warns"), [(14, True), (0.5, False)])
def test_slow_numbers_are_warned_of_once(monkeypatch, capsys, ratio, warns):
    models.warn_of_slow_numbers.cache_clear()
    monkeypatch.setattr(models, "_seconds", lambda dtype: 1.0 if dtype == torch.float32 else ratio)
    for _ in range(2):
        models.warn_of_slow_numbers(torch.bfloat16, "cpu")
    models.warn_of_slow_numbers(torch.float32, "cpu")
    models.warn_of_slow_numbers(torch.bfloat16, "cuda")
    said = capsys.readouterr().err
    assert said.count("warning: this CPU has no instructions for bfloat16") == warns
    assert ("14 times" in said and "--dtype" in said) == warns
    models.warn_of_slow_numbers.cache_clear()


def test_rows_that_are_no_distribution_are_refused():
    from diffseg import segment_chain

    with pytest.raises(ValueError, match="rows sum to"):
        segment_chain(torch.ones(4, 4), (2, 2), (4, 4))
    with pytest.raises(ValueError, match="expected"):
        segment_chain(torch.full((4, 4), 0.25), (2, 3), (4, 4))


def test_merging_on_and_on_costs_nothing_once_nothing_changes(monkeypatch):
    from diffseg.maps import merge

    generator = torch.Generator().manual_seed(0)
    maps = torch.softmax(4 * torch.randn(64, 64, generator=generator), -1)
    few = merge.merge(maps, torch.arange(64), [0.5] * 70)
    calls = []
    kl = merge.symmetric_kl
    monkeypatch.setattr(merge, "symmetric_kl", lambda *given: calls.append(1) or kl(*given))
    many = merge.merge(maps, torch.arange(64), [0.5] * 1000)
    assert torch.equal(few, many)
    assert len(calls) <= 66
    with pytest.raises(ValueError, match="merges"):
        DiffSeg.from_pipe(pipeline("sd"), merges=100_000)


def test_a_memory_error_while_drawing_is_one_line(tokenrank, model, tmp_path, monkeypatch):
    def fail(*_):
        np.empty(2**60, np.int8)

    monkeypatch.setattr(arms.Study, "_draw_batch", fail)
    given = ("--prompt", "x", "--device", "cpu", "--out", tmp_path / "o")
    assert "not enough memory" in tokenrank("sample", "--model", model("sd"), *given).mistake


@pytest.mark.parametrize("name", ["masking", "segmentation"])
def test_a_vit_is_not_loaded_for_a_size_that_does_not_fit(name, tmp_path, capsys):
    side = {"masking": "--resize", "segmentation": "--size"}[name]
    given = [
        "--model",
        "timm/none",
        "--data",
        str(write_squares(tmp_path, 3)),
        side,
        "1000000",
        "--device",
        "cpu",
    ]
    assert program(f"eval.{name}", [*given, "--out", str(tmp_path / "o")]) == 1
    assert "a picture of 1000000×1000000 need at least" in capsys.readouterr().err
