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
from eval.sweep.command import choose, main
from eval.sweep.grid import Grid, windows
from eval.sweep.options import parse
from eval.sweep.views import sweep_figure
from tests.eval.fidelity.conftest import CLASSES, noise
from tests.small import SMALL
from tokenrank_guidance.markdown import number
from tokenrank_guidance.program import run
from tokenrank_guidance.report import plain
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
            "frechet_vit": Estimate(value, value - 1, value + 1, 500, method="random halves"),
            "accuracy": Estimate(accuracy, accuracy - 0.03, accuracy + 0.03, 500, method="Wilson"),
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


def report_of(measured, by):
    best = choose({BASE: TRIED, Arm("sag"): SAG}, measured, by)
    chosen = {base.text: arm.text for base, arm in best.items()}
    return plain({"chosen": chosen, "choosing": measured.to_json(), "config": {"by": by}})


def test_figures(measured, tmp_path):
    figure = sweep_figure(report_of(measured, "frechet_vit"))
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


def test_without_intervals_every_scale_is_in_the_figure_too(measured):
    """Of so few images that there are none."""
    report = report_of(measured, "frechet_vit")
    for row in report["choosing"]["results"]:
        row["metrics"]["frechet_vit"]["ci"] = [None, None]
    panel = sweep_figure(report).axes[0]
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    assert left < 0 and right > 1.0
    heights = [y for curve in panel.containers for y in curve.lines[0].get_ydata()]
    assert low < min(heights) and max(heights) < high


def test_the_figure_shows_the_price_of_what_was_chosen_by(measured):
    figure = sweep_figure(report_of(measured, "accuracy"))
    labels = [axes.get_ylabel() for axes in figure.axes[::2]]
    assert labels == ["accuracy of a classifier", "Fréchet-ViT, not FID (lower is better)"]


def test_it_is_chosen_on_some_seeds_and_reported_on_others(classifier, model, tmp_path, capsys):
    """Drawn and measured for real: an untrained model, a tiny classifier, noise as the reference."""
    real, out = tmp_path / "real", tmp_path / "out"
    real.mkdir()
    for i in range(12):
        noise(i, side=32).save(real / f"{i:02d}.png")
    options = (
        f"--arms sag --scales 0.25,4 --metrics fid,accuracy --resamples 20 --reference {real} --out {out}"
    )
    options += f" --model {model} --device cpu --steps 2 --batch-size 4 --extractor vit:{classifier}"
    options += f" --choose-n 4 --choose-seed 100 --report-n 6 --report-seed 7 --prompts {tmp_path / 'p.txt'}"
    (tmp_path / "p.txt").write_text("".join(f"a photo of a {name}\t{name}\n" for name in CLASSES))
    assert run(main, options.split()) == 0
    report = json.loads(capsys.readouterr().out)
    tried = {row["arm"]: row["metrics"]["frechet_vit"] for row in report["choosing"]["results"]}
    assert (
        list(tried) == ["none", "sag:scale=0.25", "sag:scale=4"] and report["choosing"]["differences"] == []
    )
    assert all(figure["n"] == 4 for figure in tried.values())
    best = min(list(tried)[1:], key=lambda arm: tried[arm]["value"])
    assert report["chosen"] == {"sag": best} and report["config"]["by"] == "frechet_vit"
    assert [(row["arm"], row["n"]) for row in report["results"]] == [("none", 6), (best, 6)]
    (pair,) = report["differences"]
    assert (pair["a"], pair["b"]) == ("none", best)
    found = [row["metrics"]["frechet_vit"]["value"] for row in report["results"]]
    assert pair["metrics"]["frechet_vit"]["value"] == pytest.approx(found[0] - found[1])
    assert report["seed"] == 7 and report["n"] == 6 and report["stand_in"]
    for stage, arms, n, seed in (("choose", 3, 4, 100), ("report", 2, 6, 7)):
        manifests = [json.loads(path.read_text()) for path in (out / stage).glob("*/manifest.json")]
        assert len(manifests) == arms and {(one["n"], one["seed"]) for one in manifests} == {(n, seed)}
    text = (out / "table.md").read_text()
    assert text.startswith(f"Chosen by frechet_vit on seeds from 100 on: sag: {best}. On seeds from 7 on:\n")
    form = ".1f" if 1 <= report["results"][0]["metrics"]["frechet_vit"]["value"] < 300 else ".4f"
    for row in (*report["results"], *report["choosing"]["results"]):
        assert f"| {row['arm']} | {number(row['metrics']['frechet_vit']['value'], form)} " in text
    assert "All settings, on the seeds of the choice:" in text and f"| none − {best} |" in text
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "report.json", "table.md", "sweep.png", "sweep.svg"
    }  # fmt: skip


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
        build_pipeline("tiny-flux", 32, SMALL).save_pretrained(folder)
    (folder / "training.json").write_text('{"resolution": 32}')
    return folder
