"""`python -m eval.segmentation` on tiny models and a folder of generated pictures, in this process."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import ViTImageProcessor

from eval.segmentation.command import main
from tests import tiny_vits
from tests.eval.squares import write_squares
from tests.matrix.rows import ROWS
from tests.tiny_models import pipeline
from tokenrank_guidance.program import run


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    tiny_vits.build("vit_classifier").save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipe")
    pipeline("ddpm").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Five pictures of a bright square on a dark ground, and one that cannot be read (the third)."""
    return write_squares(tmp_path_factory.mktemp("data"), 6)


def arguments(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    given = {"data": data, "out": out, "device": "cpu", "anchors": "uniform,tokenrank-grid", "size": 64}
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return ["--model", str(model), *options, "--num-anchors", "16", "--pictures", "0", *more]


def report(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def mistake(capsys, argv: list[str]) -> str:
    assert run(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("error: ") and "Traceback" not in captured.err
    return lines[-1]


def test_prints_and_keeps_the_report(vit, data, tmp_path, capsys, figures):
    more = ("--kl-threshold", "0.2,auto", "--pictures", "1", "--match", "all")
    assert run(main, arguments(vit, data, tmp_path, *more)) == 0
    result = report(capsys)
    assert result == json.loads((tmp_path / "report.json").read_text())
    assert [(row["anchors"], row["kl_threshold"]) for row in result["results"]] == [
        ("uniform", 0.2),
        ("uniform", "auto"),
        ("tokenrank-grid", 0.2),
        ("tokenrank-grid", "auto"),
    ]
    assert result["n"] == 5 and result["skipped"] == {"unreadable": [2]}
    assert result["seed"] == 0 and "torch" in result["versions"] and result["config"]["rows"] == "all"
    row = result["results"][3]
    assert row["miou"]["ci"][0] <= row["miou"]["value"] <= row["miou"]["ci"][1] and row["miou"]["n"] == 5
    assert row["data_set"]["miou"]["value"] > 0
    assert [(one["a"], one["b"]) for one in result["differences"]] == [
        ("tokenrank-grid@0.2", "uniform@0.2"),
        ("tokenrank-grid@auto", "uniform@auto"),
    ]
    less = result["differences"][1]["metrics"]["miou"]
    assert less["value"] == pytest.approx(row["miou"]["value"] - result["results"][1]["miou"]["value"])
    assert [one["class"] for one in row["per_class"]] == ["background", "object"]
    lines = (tmp_path / "table.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [line[0] for line in cells[2:]] == [*("uniform",) * 2, *("tokenrank-grid",) * 2, "one segment"]
    for line, row in zip(cells[2:], [*result["results"], result["one_segment"]], strict=True):
        accuracies = [f"{row[name]['value']:.3f}" for name in ("pixel_accuracy", "mean_class_accuracy")]
        assert line[2:4] == accuracies
        assert line[4] == "{:.3f} ({:.3f}–{:.3f})".format(row["miou"]["value"], *row["miou"]["ci"])
    assert cells[5][6].strip("*").startswith(f"{less['value']:+.3f} (".replace("-", "−"))
    axes = figures["overlays.png"].axes
    assert len(axes) == 2 * 4 and [axes[i].get_title().split(":")[0] for i in (0, 4)] == ["worst", "best"]
    (legend,) = figures["overlays.png"].legends
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == ["grey", "black"]
    titles = [one.get_title() for one in axes]
    assert titles[1] == "truth" and all("mIoU 0." in title for title in (*titles[2:4], *titles[6:]))


def test_segments_that_are_lost_or_damaged_are_made_again(vit, data, tmp_path, capsys):
    argv = arguments(vit, data, tmp_path, "--kl-threshold", "0.2", "--match", "data-set")
    assert run(main, argv) == 0
    first, journal = report(capsys), (tmp_path / "images-0.jsonl").read_bytes()
    files = sorted((tmp_path / "segments").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-7])
    save_file({"other": torch.zeros(1)}, files[2])
    assert run(main, argv) == 0
    assert report(capsys)["results"] == first["results"]
    assert (tmp_path / "images-0.jsonl").read_bytes() == journal


@pytest.mark.parametrize(
    ("old", "new"), [('"classes": [[', '"classes": [[-'), ('"arms"', '"legs"'), ("@", "#")]
)
def test_a_damaged_journal_is_one_line_that_says_what_to_do(vit, data, tmp_path, capsys, old, new):
    argv = arguments(vit, data, tmp_path, "--kl-threshold", "0.2", "--limit", "1")
    assert run(main, argv) == 0
    capsys.readouterr()
    path = tmp_path / "images-0.jsonl"
    header, _, lines = path.read_text().partition("\n")
    assert old in lines
    path.write_text(header + "\n" + lines.replace(old, new, 1).replace("[[-0", "[[-1"))
    line = mistake(capsys, argv)
    assert f"line 2 of {path} is damaged: " in line and line.endswith("remove the file to start anew")


def test_resumes_without_repeating(vit, data, tmp_path, capsys, monkeypatch):
    argv = arguments(vit, data, tmp_path / "parts")
    calls = []

    def stop(*_) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    from eval.segmentation import command

    rgb = command._rgb
    with monkeypatch.context() as patched:
        patched.setattr(command, "_rgb", lambda scene: (stop(), rgb(scene))[1])
        assert run(main, argv) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip().splitlines()[-1].startswith("interrupted: ")
    assert not (tmp_path / "parts" / "report.json").exists()
    kept = (tmp_path / "parts" / "images-0.jsonl").read_text()
    assert len(kept.splitlines()) == 1 + 3  # two pictures, and the unreadable one
    assert run(main, argv) == 0
    resumed = report(capsys)["results"]
    assert (tmp_path / "parts" / "images-0.jsonl").read_text().startswith(kept)
    assert run(main, arguments(vit, data, tmp_path / "whole")) == 0
    whole = report(capsys)["results"]
    for row in (*resumed, *whole):
        for name in ("seconds_per_image", "attention_seconds", "segmentation_seconds"):
            row.pop(name)
    assert resumed == whole
    monkeypatch.setattr("eval.segmentation.measure.Measurement.__call__", None)  # nothing is left to measure
    assert run(main, argv) == 0


def test_the_threshold_of_an_earlier_report(vit, data, tmp_path, capsys):
    argv = arguments(vit, data, tmp_path / "even", "--rows", "even", "--kl-threshold", "0.05,0.2,0.5")
    assert run(main, argv) == 0
    best = {}
    for row in report(capsys)["results"]:
        if row["miou"]["value"] > best.get(row["anchors"], (-1, None))[0]:
            best[row["anchors"]] = row["miou"]["value"], row["kl_threshold"]
    chosen = ("--rows", "odd", "--tau-from", str(tmp_path / "even" / "report.json"))
    assert run(main, arguments(vit, data, tmp_path / "odd", *chosen)) == 0
    result = report(capsys)
    assert result["n"] == 3
    rows = {row["anchors"]: row for row in result["results"]}
    assert {name: row["kl_threshold"] for name, row in rows.items()} == {
        name: threshold for name, (_, threshold) in best.items()
    }
    (difference,) = result["differences"]
    assert difference["b"] == rows["uniform"]["arm"] == f"uniform@{best['uniform'][1]}"
    assert "both choose τ" in mistake(
        capsys, arguments(vit, data, tmp_path / "no", *chosen, "--kl-threshold", "1")
    )


def test_a_pipeline_by_the_reference_preset(pipe, data, tmp_path, capsys):
    argv = arguments(pipe, data, tmp_path, "--preset", "reference", "--limit", "2", "--size", "32")
    assert run(main, [*argv, "--anchors", "reference,tokenrank-grid"]) == 0
    result = report(capsys)
    assert [row["kl_threshold"] for row in result["results"]] == [1.1, 1.1]
    assert [(one["a"], one["b"]) for one in result["differences"]] == [
        ("tokenrank-grid@1.1", "reference@1.1")
    ]
    assert result["config"]["settings"]["dtype"] == "torch.float64"


def test_mistakes_are_one_line(vit, data, tmp_path, capsys):
    def line(*more: str, of: Path | str = data, model: Path = vit) -> str:
        return mistake(capsys, arguments(model, of, tmp_path / "out", *more))

    assert "got tokenrnk; expected some of" in line("--anchors", "tokenrnk")
    assert "expected numbers > 0 or auto" in line("--kl-threshold", "0")
    assert "expected a number" in line("--kl-threshold", "many")
    both = arguments(vit, data, tmp_path / "out", "--pipe", "tiny-flux")
    assert "--pipe: it is now called --model: give one of them, once" in mistake(capsys, both)
    assert "--add-noise would have no effect: a vision transformer sees" in line("--add-noise")
    assert "got 2, and segments are read at one" in line("--timesteps", "1,2")
    assert "there is no file or folder" in line(of=tmp_path / "none")
    assert "there is no" in line(of=f"coco-stuff27:{tmp_path}")
    assert "damping" in line("--damping", "1")
    assert "no model could be loaded from" in line(model=tmp_path)
    ROWS["FluxControl"].build().save_pretrained(tmp_path / "control")
    assert "its denoiser takes 32 channels, an image gives 16" in line(model=tmp_path / "control")
    (tmp_path / "bad" / "images").mkdir(parents=True)
    (tmp_path / "bad" / "masks").mkdir()
    for kind in ("images", "masks"):
        (tmp_path / "bad" / kind / "0.png").write_bytes(b"")
    assert "none of the 1 images of" in line(of=tmp_path / "bad")
    assert "1 class names for masks with values up to 1" in mistake(
        capsys, arguments(vit, data, tmp_path / "names", "--class-names", "sky")
    )


def test_other_settings_in_the_same_folder_are_refused(vit, data, tmp_path, capsys):
    assert run(main, arguments(vit, data, tmp_path, "--limit", "1")) == 0
    capsys.readouterr()
    assert "has results of other settings (arms was" in mistake(
        capsys, arguments(vit, data, tmp_path, "--kl-threshold", "0.7")
    )


@pytest.mark.data
@pytest.mark.extended
def test_segments_are_better_than_one_for_all(data_folder, tmp_path, capsys):
    """The embedded model's attention on salient objects, against a single segment for the whole picture."""
    source = data_folder / "ecssd_even.parquet"
    argv = ["--model", "tiny-flux", "--data", str(source), "--limit", "3", "--size", "128", "--device", "cpu"]
    options = ["--anchors", "tokenrank-grid", "--kl-threshold", "0.55,100", "--pictures", "0"]
    assert run(main, [*argv, *options, "--out", str(tmp_path)]) == 0
    result = report(capsys)
    parted, whole = result["results"]
    assert whole["segments"] == 1 and parted["segments"] > 1
    objects = [row["per_class"][1]["best_overlap"] for row in (parted, whole)]
    assert objects[0] > objects[1]
    assert whole["miou"] == result["one_segment"]["miou"]
