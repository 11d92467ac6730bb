"""Sizes, memory, numbers: refused or warned of before work starts, and what comes out is looked at."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg import DiffSeg
from tests.eval.squares import write_squares
from tests.tiny_models import pipeline
from tokenrank_guidance import memory, pipelines
from tokenrank_guidance.calls import finite_pictures
from tokenrank_guidance.cli import arms
from tokenrank_guidance.program import program


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


@pytest.mark.parametrize(("name", "part"), [("sd", "vae"), ("ddpm", "unet")])
def test_pictures_of_nan_are_an_error_and_not_black(tokenrank, model, tmp_path, monkeypatch, name, part):
    load = pipelines.load_model

    def broken(*given):
        loaded = load(*given)
        with torch.no_grad():
            last = [p for p in getattr(loaded.pipe, part).parameters() if p.ndim == 1][-1]
            last.fill_(torch.nan)
        return loaded

    monkeypatch.setattr(pipelines, "load_model", broken)
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
@pytest.mark.parametrize("option", ["cfg", "scale", "threshold", "keep-contrast", "start"])
def test_numbers_that_are_none_are_refused(tokenrank, tmp_path, option, value):
    assert f"argument --{option}: expected a number" in tokenrank("sample", f"--{option}={value}").mistake


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
    assert program(f"eval.{name}", [*given, "--out", str(tmp_path / "o")]) == 2
    assert "a picture of 1000000×1000000 need at least" in capsys.readouterr().err
