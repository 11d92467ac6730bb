"""`python -m eval.zero_shot` on tiny random models and generated pictures, in this process."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffseg.zero_shot import Options, heat_maps
from eval.zero_shot import command
from eval.zero_shot.arms import JOINT_ARMS, UNET_ARMS, named_arms
from eval.zero_shot.command import main
from tests.eval.squares import write_squares
from tests.matrix.rows import ROWS
from tests.tiny_models import pipeline
from tests.tiny_readers import READERS
from tokenrank_guidance.program import run
from tokenrank_guidance.tiny.architecture import build_pipeline
from tokenrank_guidance.tiny.export import export_pipeline


@pytest.fixture(scope="module")
def flux(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flux")
    pipeline("flux").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four pictures of a bright square on a dark ground, and one that cannot be read (the third)."""
    return write_squares(tmp_path_factory.mktemp("data"), 5)


def arguments(pipe: object, data: object, out: Path, *more: str) -> list[str]:
    given = {"model": pipe, "data": data, "out": out, "device": "cpu", "size": 32, "draws": 1}
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    few = ("--curve", "2", "--pictures", "0", "--concept", "box")
    return [*options, *(few if "--concept" not in more else few[:4]), *more]


@pytest.mark.parametrize(
    ("name", "left"),
    [pytest.param("FLUX", (), marks=pytest.mark.extended), ("SD", ()), ("Lumina 2", ("concept-attention",))],
)
def test_default_methods_are_those_that_the_pipeline_has_and_the_librarys_own_is_among_them(name, left):
    pipe = {"FLUX": "flux", "SD": "sd"}.get(name)
    pipe = pipeline(pipe) if pipe else READERS[name].build()
    options = [arm.options for arm in named_arms(command.default_arms(pipe), Options())]
    assert Options() in options
    heats = heat_maps(
        pipe, torch.rand(3, 32, 32), ["box"], [replace(one, draws=1) for one in options], "a box"
    )
    assert len(heats) == len(options)
    assert set(JOINT_ARMS if name != "SD" else UNET_ARMS) - set(command.default_arms(pipe)) == set(left)


def report(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def mistake(capsys, argv: list[str]) -> str:
    assert run(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in captured.err
    return last


def test_prints_and_keeps_the_report(flux, data, tmp_path, capsys, figures):
    assert run(main, arguments(flux, data, tmp_path, "--pictures", "1")) == 0
    result = report(capsys)
    assert result == json.loads((tmp_path / "report.json").read_text())
    names = list(JOINT_ARMS)
    assert [row["arm"] for row in result["results"]] == names
    assert result["n"] == 4 and result["skipped"] == {"unreadable": [2]} and result["seed"] == 0
    for row in result["results"]:
        for name in ("acc", "miou", "map", "ca_miou"):
            low, high = row[name]["ci"]
            assert 0 <= low <= row[name]["value"] <= high <= 1 and row[name]["n"] == 4
        accuracy = row["acc"]["value"]
        assert row["ca_miou"]["value"] == pytest.approx(accuracy / (2 - accuracy))
        assert [one["class"] for one in row["per_class"]] == ["box"]
        assert row["per_class"][0]["miou"] == pytest.approx(row["miou"]["value"])
    pairs = [(a, b) for place, a in enumerate(names) for b in names[:place]]
    assert [(one["a"], one["b"]) for one in result["differences"]] == pairs
    gap = result["differences"][pairs.index(("bounce-lambda2", "row"))]["metrics"]["miou"]["value"]
    miou = [row["miou"]["value"] for row in result["results"]]
    assert gap == pytest.approx(miou[5] - miou[0])
    points = [(point["direction"], point["bounces"]) for point in result["curve"]]
    assert points == [("outgoing", 1), ("outgoing", 2), ("incoming", 1), ("incoming", 2)]
    same = ("acc", "miou", "map")
    assert [result["curve"][1][k] for k in same] == [result["results"][5][k] for k in same]
    assert result["curve"][2]["miou"] != result["curve"][0]["miou"]
    methods = (tmp_path / "table.md").read_text().strip()  # of one class there is no table of classes
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in methods.splitlines()]
    assert [line[0] for line in cells[2:]] == names
    for line, row in zip(cells[2:], result["results"], strict=True):
        for cell, name in zip(line[1:4], ("acc", "miou", "map"), strict=True):
            value, low, high = (100 * one for one in (row[name]["value"], *row[name]["ci"]))
            assert cell == f"{value:.1f} ({low:.1f}–{high:.1f})"
    titles = [axes.get_title() for axes in figures["pictures.png"].axes]
    wide = 1 + len(names)
    assert len(titles) == 2 * wide
    assert titles[0].startswith("worst: ") and titles[wide].startswith("best: ")
    assert [title.split("\n")[0] for title in titles[1:wide]] == names
    curves = {line.get_label(): list(line.get_ydata()) for line in figures["curve.png"].axes[0].lines}
    points = [100 * point["miou"]["value"] for point in result["curve"]]
    assert curves["outgoing bounces, λ2"] == points[:2] and curves["incoming bounces, λ2"] == points[2:]
    assert curves["row"] == [100 * miou[0]] * 2


def test_the_curve_shows_both_directions_and_the_methods_without_bounces(flux, data, tmp_path, figures):
    assert run(main, arguments(flux, data, tmp_path, "--methods", "row,bounce")) == 0
    (legend,) = figures["curve.png"].legends
    names = [text.get_text() for text in legend.texts]
    assert names == ["outgoing bounces, λ2", "incoming bounces, λ2", "row"]


def test_resumes_without_repeating(flux, data, tmp_path, capsys, monkeypatch):
    argv = arguments(flux, data, tmp_path / "parts", "--methods", "row,bounce")
    calls, heat_maps = [], command.heat_maps

    def stop(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return heat_maps(*given)

    with monkeypatch.context() as patched:
        patched.setattr(command, "heat_maps", stop)
        assert run(main, argv) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip().splitlines()[-1].startswith("interrupted: ")
    kept = (tmp_path / "parts" / "images-0.jsonl").read_text()
    assert len(kept.splitlines()) == 1 + 3  # two pictures, and the unreadable one
    assert run(main, argv) == 0
    resumed = report(capsys)
    assert (tmp_path / "parts" / "images-0.jsonl").read_text().startswith(kept)
    assert run(main, arguments(flux, data, tmp_path / "whole", "--methods", "row,bounce")) == 0
    whole = report(capsys)
    assert resumed["results"] == whole["results"] and resumed["curve"] == whole["curve"]
    monkeypatch.setattr(command, "heat_maps", None)  # nothing is left to measure
    assert run(main, argv) == 0


def test_a_method_does_not_depend_on_what_it_is_measured_with(flux, data, tmp_path, capsys):
    assert run(main, arguments(flux, data, tmp_path / "a", "--methods", "column", "--curve", "0")) == 0
    alone = report(capsys)
    assert run(main, arguments(flux, data, tmp_path / "b", "--methods", "bounce,column")) == 0
    row = report(capsys)["results"][1]
    assert alone["curve"] == []
    assert {k: row[k] for k in ("acc", "miou", "map")} == {
        k: alone["results"][0][k] for k in ("acc", "miou", "map")
    }


def test_unets(data, tmp_path, capsys):
    pipeline("sd").save_pretrained(tmp_path / "sd")
    assert run(main, arguments(tmp_path / "sd", data, tmp_path / "out", "--limit", "2")) == 0
    result = report(capsys)
    assert [r["arm"] for r in result["results"]] == list(UNET_ARMS)
    assert "row needs text and image" in mistake(
        capsys, arguments(tmp_path / "sd", data, tmp_path / "row", "--methods", "row")
    )


def test_miniatures_know_their_labels_alone(data, tmp_path):
    argv = arguments("tiny-flux", data, tmp_path)
    task = command.open_task(command.parse([one for one in argv if one not in ("--size", "32")]), "cpu")
    options = {arm.name: arm.options for arm in task.arms}
    assert "church" in options["concept-attention"].background and options["row"].resolution == 128
    task = command.open_task(command.parse([*argv, "--background", "tench"]), "cpu")
    assert task.arms[0].options.background == ("tench",) and task.arms[0].options.resolution == 32


def test_a_folder_that_training_wrote(data, tmp_path, capsys):
    """What `tokenrank_guidance.tiny.train` exports beside its checkpoint: a miniature like those shipped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = build_pipeline("tiny-flux", 32)
    trained = {name: getattr(pipe, name) for name in ("transformer", "text_encoder", "text_encoder_2")}
    export_pipeline(pipe, trained, {"images": 640, "resolution": 32, "history": []}, tmp_path / "tiny-flux")
    more = ("--concept", "church", "--limit", "1", "--methods", "concept-attention,bounce", "--curve", "0")
    argv = [*arguments(tmp_path / "tiny-flux", data, tmp_path / "out", *more), "--pictures", "0"]
    assert run(main, argv) == 0
    found = report(capsys)
    assert [row["arm"] for row in found["results"]] == ["concept-attention", "bounce"]
    assert "golf ball" in found["config"]["arms"]["concept-attention"]["background"]


def test_mistakes(flux, data, tmp_path, capsys):
    def of(*more, source=data):
        return mistake(capsys, arguments(flux, source, tmp_path / "out", *more))

    plain = arguments(flux, data, tmp_path / "out")[:-2]
    assert "has no labels: give --concept or --names" in mistake(capsys, plain)
    (tmp_path / "names.txt").write_text("a\nb\n")
    assert "has 2 names for 5 pictures" in mistake(capsys, [*plain, "--names", str(tmp_path / "names.txt")])
    assert "expected some of row, column" in of("--methods", "rows")
    assert "expected a caption with {name}" in of("--caption", "a box")
    assert "expected timesteps of 1000" in of("--timesteps", "1000")
    assert "has no masks" in of(source=data / "masks")
    assert "expected a PASCAL VOC folder" in of(source=f"voc:{tmp_path}")
    assert "other settings" in other_settings(flux, data, tmp_path, capsys)
    ROWS["FluxControl"].build().save_pretrained(tmp_path / "control")
    control = arguments(tmp_path / "control", data, tmp_path / "out")
    assert "its denoiser takes 32 channels, an image gives 16" in mistake(capsys, control)
    assert not (tmp_path / "out" / "report.json").exists()


def other_settings(flux, data, tmp_path, capsys):
    argv = arguments(flux, data, tmp_path / "kept", "--limit", "1", "--methods", "row")
    assert run(main, argv) == 0
    capsys.readouterr()
    return mistake(capsys, [*argv, "--mix", "heads", "--timesteps", "200"])
