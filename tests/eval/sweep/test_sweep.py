"""The grid of settings, what is chosen of it, and its figures."""

import json
from argparse import ArgumentTypeError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eval.fidelity.images import Generated
from eval.fidelity.measure import Measured
from eval.fidelity.resampling import Estimate
from eval.generate.arms import Arm, parse_arm
from eval.generate.draw import Drawing
from eval.report import save_figure
from eval.sweep import command
from eval.sweep.command import choose, main
from eval.sweep.figures import sweep_figure
from eval.sweep.grid import Grid, windows
from eval.sweep.options import parse
from tests.eval.fidelity.conftest import noise
from tokenrank_guidance.program import run
from tokenrank_guidance.tiny.architecture import build_pipeline

BASE = parse_arm("tokenrank:heads=lambda2")
TRIED = Grid((0.25, 0.5, 1.0), every=(1, 2)).arms(BASE)
SAG = Grid((0.25, 0.5, 1.0), every=(1, 2)).arms(Arm("sag"))


def distance(arm: Arm) -> float:
    settings = dict(arm.settings)
    scale = settings.get("scale", 0)
    return 40 - 12 * scale + 11 * scale**2 + settings.get("every", 1) + (arm.name == "sag")


@pytest.fixture
def measured():
    def image_set(arm: Arm) -> Generated:
        cost = {"denoiser_evaluations": 48 if arm.name == "none" else 48 + 24 / dict(arm.settings)["every"]}
        return Generated(arm.text, [Path("x.png")] * 500, [None] * 500, "p", cost)

    def figures(arm: Arm) -> dict[str, Estimate]:
        value = distance(arm)
        accuracy = 0.9 - value / 100
        return {
            "frechet_vit": Estimate(value, value - 1, value + 1, 500, "random halves"),
            "accuracy": Estimate(accuracy, accuracy - 0.03, accuracy + 0.03, 500, "Wilson"),
        }

    arms = [Arm("none"), *TRIED, *SAG]
    extractor = SimpleNamespace(is_stand_in=True, identity="vit-0")
    return Measured(
        [image_set(arm) for arm in arms], {arm.text: figures(arm) for arm in arms}, {}, extractor, []
    )


def test_every_combination_is_tried():
    grid = Grid((0.5, 1.0), (0.8,), ("auto", "0+1"), ((0.0, 1.0), (0.2, 0.8)), (1, 2))
    arms = grid.arms(BASE)
    assert len(set(arms)) == 16
    assert arms[0].text == (
        "tokenrank:scale=0.5:layers=auto:heads=lambda2:threshold=0.8:start=0:stop=1:every=1"
    )
    assert all(dict(arm.settings)["heads"] == "lambda2" for arm in arms)


def test_what_an_arm_lacks_cannot_be_tried():
    with pytest.raises(ArgumentTypeError, match="threshold"):
        Grid((1.0,), (0.5,)).arms(Arm("pag"))
    with pytest.raises(ArgumentTypeError, match="START:STOP"):
        windows("0.5")


def test_the_best_is_the_lowest_distance_and_the_highest_accuracy(measured):
    tried = {BASE: TRIED, Arm("sag"): SAG}
    for by in (None, "frechet_vit", "accuracy"):
        best = choose(tried, measured, by)
        assert {dict(arm.settings)["scale"] for arm in best.values()} == {0.5}
        assert {dict(arm.settings)["every"] for arm in best.values()} == {1}
    with pytest.raises(ValueError, match="expected one of what is measured: frechet_vit, accuracy"):
        choose(tried, measured, "fid")


def test_figures(measured, tmp_path):
    best = choose({BASE: TRIED, Arm("sag"): SAG}, measured, None)
    figure = sweep_figure(measured, best, "frechet_vit")
    assert len(figure.axes) == 4
    curves = figure.axes[0].containers
    assert [curve.lines[0].get_xdata().tolist() for curve in curves] == [[0, 0.25, 0.5, 1.0]] * 2
    left, right = figure.axes[0].get_xlim()
    assert left < 0 and right > 1.0
    assert curves[0].get_label() == "tokenrank:heads=lambda2:every=1"
    assert "not FID" in figure.axes[0].get_ylabel()
    for suffix in ("png", "svg"):
        save_figure(figure, tmp_path / f"sweep.{suffix}")
        assert (tmp_path / f"sweep.{suffix}").stat().st_size > 10_000


def test_the_figure_shows_the_price_of_what_was_chosen_by(measured):
    best = choose({BASE: TRIED, Arm("sag"): SAG}, measured, "accuracy")
    figure = sweep_figure(measured, best, "accuracy")
    labels = [axes.get_ylabel() for axes in figure.axes[::2]]
    assert labels == ["accuracy of a classifier", "Fréchet-ViT, not FID (lower is better)"]


def test_it_is_chosen_on_some_seeds_and_reported_on_others(measured, monkeypatch, tmp_path, capsys):
    drawn = []
    task = SimpleNamespace(
        drawings=len, prompts=SimpleNamespace(labels=("a",)), reseeded=lambda seed: f"from {seed}"
    )
    monkeypatch.setattr(command, "open_task", lambda arguments, state: task)
    monkeypatch.setattr(command, "check_measuring", lambda *_: None)
    monkeypatch.setattr(command, "generate", lambda arguments, state, task: drawn.append((arguments, task)))
    monkeypatch.setattr(command, "open_generated", list)
    monkeypatch.setattr(command, "measure", lambda *_: measured)
    options = "--scales 0.25,0.5,1 --every 1,2 --arms tokenrank:heads=lambda2,sag"
    options += " --device cpu --extractor vit:v --out"
    assert run(main, [*options.split(), str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    (choosing, first), (reporting, second) = drawn
    assert (first, second) == ("from 1000000", "from 0")
    assert len(choosing.arms) == 13 and len(reporting.arms) == 3
    assert (choosing.seed, choosing.n, reporting.seed, reporting.n) == (1_000_000, 500, 0, 2000)
    assert report["chosen"]["sag"] == "sag:scale=0.5:every=1"
    assert report["stand_in"] and len(report["choosing"]["results"]) == 13
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "table.md", "sweep.png", "sweep.svg"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--choose-seed 1000", "overlap"),
        ("--arms none", "none"),
        ("--arms pag --thresholds 1", "threshold"),
        ("--scales x", "--scales"),
        ("--scales -1", "sag_scale"),
        ("--every 0", "--every"),
        ("--windows 1:0", "start"),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(ValueError, match=words):
        parse(["--out", "x", *options.replace("--scales -1", "--scales=-1").split()])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--extractor", "inception"), "--inception FILE"),
        (("--extractor", "vit:nowhere"), "no image classifier"),
        (("--reference", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--reference", "shipped"), "no shipped statistics fit"),
        (("--metrics", "fid"), "metric fid needs --reference"),
        (("--metrics", "isc"), "metric isc needs at least 20 images of each arm, got 12"),
        (("--by", "accurracy"), "--by is 'accurracy'; expected one of what is measured: isc_vit"),
        (("--extrapolate",), "--extrapolate needs fid"),
        (("--measure-on", "toaster"), "toaster"),
        (("--arms", "sag:layers=nowhere"), "nowhere"),
        (("--reference", "REAL", "--height", "32", "--width", "64"), "--resolution"),
        (("--reference", "FEW", "--metrics", "prc"), "a reference of at least 4 images, got 2"),
        (("--out", "FILE"), "cannot write"),
    ],
)
def test_everything_is_checked_before_the_first_image(
    classifier, model, tmp_path, monkeypatch, capsys, options, words
):
    monkeypatch.setattr(Drawing, "__call__", None)
    for name, count in (("REAL", 30), ("FEW", 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            noise(i).save(tmp_path / name / f"{i}.png")
    (tmp_path / "FILE").write_text("x")
    ours = {name: str(tmp_path / name) for name in ("REAL", "FEW", "FILE")}
    few = "12" if "isc" in options else "20"
    given = {"--out": tmp_path / "out", "--extractor": f"vit:{classifier}", "--choose-n": few}
    common = {"--model": model, "--device": "cpu", "--report-n": "40", "--steps": "2"}
    argv = [str(part) for pair in (given | common).items() for part in pair]
    assert run(main, [*argv, *(ours.get(option, option) for option in options)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err.strip().splitlines()[-1] and captured.out == ""
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        build_pipeline("tiny-flux", 32).save_pretrained(folder)
    (folder / "training.json").write_text('{"resolution": 32}')
    return folder
