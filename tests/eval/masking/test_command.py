"""`python -m eval.masking` on a tiny model and a folder of generated images, in this process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTImageProcessor

from eval.masking.command import main
from tests import tiny_vits
from tokenrank_guidance.program import run

NAMES = ["red", "green", "blue", "grey", "black"]
PROCESSOR = ViTImageProcessor(size={"height": 32, "width": 32})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    vit = tiny_vits.build("vit_classifier")
    vit.config.id2label = dict(enumerate(NAMES))
    vit.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six pictures of three classes, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / NAMES[i % 3]).mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / NAMES[i % 3] / f"{i}.png")
    (folder / "red" / "broken.png").write_bytes(b"not a picture")
    return folder


def arguments(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    given = {"model": model, "data": data, "out": out, "device": "cpu", "scorers": "random,tokenrank"}
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    if "--layers-from" not in more:
        options += ["--layers", "1"]
    return [*options, "--fractions", ".25,.75", "--pictures", "1", *more]


def report(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def mistake(capsys, argv: list[str]) -> str:
    assert run(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("error: ") and "Traceback" not in captured.err
    return lines[-1]


def test_prints_and_keeps_the_report(model, data, tmp_path, capsys, figures):
    assert run(main, arguments(model, data, tmp_path)) == 0
    result = report(capsys)
    assert result == json.loads((tmp_path / "report.json").read_text())
    assert [(row["scorer"], row["layer"]) for row in result["results"]] == [
        ("random", None),
        ("tokenrank", 1),
    ]
    assert result["n"] == 6 and len(result["skipped"]["unreadable"]) == 1
    row = result["results"][0]
    assert row["auc"].keys() == {"value", "ci", "n"} and row["auc"]["n"] == 6
    assert row["auc"]["value"] == pytest.approx(np.mean([point["top1"]["value"] for point in row["curve"]]))
    assert row["curve"][0]["frechet_vit"] > 0 and [point["masked"] for point in row["curve"]] == [4, 12]
    assert [(one["a"], one["b"]) for one in result["differences"]] == [
        ("random", "tokenrank@1"),
        ("tokenrank@1", "random"),
    ]
    assert (
        result["config"]["mask"] == "zero" and result["config"]["seed"] == 0 and "torch" in result["versions"]
    )
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "| ranking | layer | area (95 %) | − random | n |"
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        row = next(row for row in result["results"] if row["scorer"] == cells[0])
        assert cells[2] == "{:.3f} ({:.3f}–{:.3f})".format(row["auc"]["value"], *row["auc"]["ci"])
        assert cells[4] == "6"
    assert len(lines) == 4 and set(figures) == {"curves.png", "curves.svg", "tokens.png"}
    accuracy = figures["curves.png"].axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in accuracy.lines}
    points = [result["plain"], *result["results"][0]["curve"]]
    assert drawn["random"] == [[point["fraction"], point["top1"]["value"]] for point in points]
    assert set(drawn) == {"random", "tokenrank (layer 1)"}
    titles = [axes.get_title() for axes in figures["tokens.png"].axes if axes.get_title()]
    assert titles[1:] == ["random", "tokenrank\n(layer 1)"] and titles[0] in NAMES


def test_resumes_without_repeating(model, data, tmp_path, capsys, monkeypatch):
    argv = arguments(model, data, tmp_path, "--pictures", "0", "--frechet", "never")
    assert run(main, [*argv, "--limit", "4"]) == 0
    first = report(capsys)
    images = (tmp_path / "images-0.jsonl").read_text()
    assert run(main, argv) == 0
    whole = report(capsys)
    assert (tmp_path / "images-0.jsonl").read_text().startswith(images)
    assert first["n"] < whole["n"] == 6
    monkeypatch.setattr("eval.masking.measure.Measurement.__call__", None)  # nothing is left to measure
    assert run(main, argv) == 0
    again = report(capsys)
    assert again["results"] == whole["results"]


def test_features_that_are_lost_or_damaged_are_made_again(model, data, tmp_path, capsys):
    argv = arguments(model, data, tmp_path, "--pictures", "0", "--limit", "5")
    assert run(main, argv) == 0
    first = report(capsys)
    journal = (tmp_path / "images-0.jsonl").read_bytes()
    files = sorted((tmp_path / "features").iterdir())
    whole = [path.read_bytes() for path in files]
    files[0].unlink()
    files[1].write_bytes(whole[1][:-40])
    save_file({"features": torch.zeros(2, 1, 4)}, files[2])
    save_file({"other": torch.zeros(1)}, files[3])
    assert run(main, argv) == 0
    again = report(capsys)
    assert (tmp_path / "images-0.jsonl").read_bytes() == journal
    for row, other in zip(again["results"], first["results"], strict=True):
        assert row["auc"] == other["auc"]
        assert row["curve"][0]["frechet_vit"] == pytest.approx(other["curve"][0]["frechet_vit"], rel=1e-3)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rank"', '"tank"'),
        ('"rank": [', '"rank": [[0, 0, 0], '),
        ('"rank": [[', '"rank": [[1e99, '),
        ('"key": "', '"key": "x'),
        ('"probability": [[', '"probability": [[17, '),
    ],
)
def test_a_damaged_journal_is_one_line_that_says_what_to_do(model, data, tmp_path, capsys, old, new):
    argv = arguments(model, data, tmp_path, "--pictures", "0", "--limit", "2", "--frechet", "never")
    assert run(main, argv) == 0
    capsys.readouterr()
    path = tmp_path / "images-0.jsonl"
    header, _, lines = path.read_text().partition("\n")
    assert old in lines
    path.write_text(header + "\n" + lines.replace(old, new, 1))
    line = mistake(capsys, argv)
    assert f"of {path} is damaged: " in line and line.endswith("remove the file to start anew")


REPORTS = ["[]", '{"config": {"order": "descending"}, "results": [{"scorer": 1}]}', "["]


@pytest.mark.parametrize("content", REPORTS)
def test_a_report_of_something_else_is_one_line(model, data, tmp_path, capsys, content):
    (tmp_path / "r.json").write_text(content)
    line = mistake(capsys, arguments(model, data, tmp_path / "o", "--layers-from", str(tmp_path / "r.json")))
    assert "r.json is not a report of eval.masking: " in line


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "cuda"])
def test_a_device_that_is_not_here_is_one_line(model, data, tmp_path, capsys, device):
    if device == "cuda" and torch.cuda.is_available():
        device = "xpu"
    line = mistake(capsys, arguments(model, data, tmp_path / "o", "--device", device))
    assert f"device {device!r} cannot be used: " in line


def test_an_interrupt_keeps_what_is_finished(model, data, tmp_path, capsys, monkeypatch):
    argv = arguments(model, data, tmp_path, "--pictures", "0")
    monkeypatch.setattr("eval.masking.command.IMAGES", 2)
    calls = []

    def stop(*_) -> list[int]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [0, 1]

    with monkeypatch.context() as patched:
        patched.setattr("eval.masking.command._seeds", stop)
        assert run(main, argv) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip().splitlines()[-1].startswith("interrupted: ")
    assert not (tmp_path / "report.json").exists()
    assert len((tmp_path / "images-0.jsonl").read_text().splitlines()) >= 1 + 4
    assert run(main, argv) == 0
    assert report(capsys)["n"] == 6


def test_other_settings_in_the_same_folder_are_refused(model, data, tmp_path, capsys):
    assert run(main, arguments(model, data, tmp_path, "--limit", "2", "--pictures", "0")) == 0
    capsys.readouterr()
    line = mistake(capsys, arguments(model, data, tmp_path, "--mask", "mean"))
    assert "mask was 'zero', is 'mean'" in line


def test_layers_from_an_earlier_report(model, data, tmp_path, capsys):
    argv = arguments(model, data, tmp_path / "sweep", "--layers", "all", "--pictures", "0")
    assert run(main, [*argv, "--rows", "even"]) == 0
    sweep = report(capsys)["results"]
    assert (tmp_path / "sweep" / "layers.svg").is_file()
    best = min((row for row in sweep if row["scorer"] == "tokenrank"), key=lambda row: row["auc"]["value"])[
        "layer"
    ]
    chosen = ["--rows", "odd", "--layers-from", str(tmp_path / "sweep" / "report.json")]
    assert run(main, arguments(model, data, tmp_path / "table", *chosen)) == 0
    rows = report(capsys)["results"]
    assert [(row["scorer"], row["layer"]) for row in rows] == [("random", None), ("tokenrank", best)]
    line = mistake(capsys, arguments(model, data, tmp_path / "no", *chosen, "--scorers", "column_sum"))
    assert "has no layer for column_sum: it has random, tokenrank" in line
    assert run(main, arguments(model, data, tmp_path / "all", *chosen, "--scorers", "rollout,tokenrank")) == 0
    assert [row["layer"] for row in report(capsys)["results"]] == [None, best]


def test_a_backbone_with_a_linear_head(data, tmp_path, capsys):
    tiny_vits.build("dinov2_registers").save_pretrained(tmp_path / "model")
    PROCESSOR.save_pretrained(tmp_path / "model")
    argv = arguments(tmp_path / "model", data, tmp_path / "out", "--mask", "drop", "--pictures", "0")
    assert "give its linear head with --head FILE.safetensors" in mistake(capsys, argv)
    head = {"weight": torch.randn(5, 64), "bias": torch.zeros(5)}
    save_file(head, tmp_path / "head.safetensors", {"labels": json.dumps(NAMES)})
    assert run(main, [*argv, "--head", str(tmp_path / "head.safetensors")]) == 0
    assert report(capsys)["n"] == 6


def test_mistakes_are_one_line(model, data, tmp_path, capsys):
    def line(*more: str, of: Path = data) -> str:
        return mistake(capsys, arguments(model, of, tmp_path / "out", *more))

    assert "unknown scorer 'tokenrnk', did you mean 'tokenrank'?" in line("--scorers", "tokenrnk")
    assert "invalid choice: 'grey'" in line("--mask", "grey")
    assert "layer 9 does not exist" in line("--layers", "9")
    (tmp_path / "empty").mkdir()
    assert "there is no image in" in line(of=tmp_path / "empty")
    (tmp_path / "odd" / "zebra").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "odd" / "zebra" / "0.png")
    assert "'zebra'" in line(of=tmp_path / "odd")
    (tmp_path / "bad" / "red").mkdir(parents=True)
    (tmp_path / "bad" / "red" / "0.png").write_bytes(b"")
    assert "none of the 1 images of" in line(of=tmp_path / "bad")
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "flat" / "0.png")
    assert "has no labelled image" in line(of=tmp_path / "flat")
    argv = arguments(tmp_path / "empty", data, tmp_path / "out")
    assert "no model could be loaded from" in mistake(capsys, argv)


@pytest.mark.data
@pytest.mark.extended
def test_a_real_classifier_misses_what_tokenrank_names(data_folder, tmp_path, capsys):
    vit = data_folder.parent / "models" / "vit-tiny-imagenet"
    if not vit.is_dir():
        pytest.skip(f"no ViT at {vit}")
    argv = arguments(
        vit, data_folder / "imagenette_val1000.parquet", tmp_path, "--limit", "8", "--layers", "10"
    )
    assert run(main, argv) == 0
    result = report(capsys)
    area = {row["scorer"]: row["auc"]["value"] for row in result["results"]}
    assert result["plain"]["top1"]["value"] >= 0.5 and area["tokenrank"] < area["random"]
