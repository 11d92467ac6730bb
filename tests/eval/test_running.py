"""Measuring what no journal has, alone and as one of several, and publishing."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from eval import running
from eval.arguments import Running
from eval.data import UnreadableImage
from eval.kept import Kept
from eval.running import image_journals, measure_missing, one_by_one, publish, worst_and_best
from eval.schema import Count, Record
from eval.views import Views
from tokenrank_guidance.interval import Interval


class Square(Record):
    square: Count

    def check(self, expected):
        if self.square > expected:
            raise ValueError("it is too large")


class Alone:
    """The only process, or one of several that run one after the other."""

    def __init__(self, process_index=0, num_processes=1):
        self.process_index, self.num_processes = process_index, num_processes
        self.is_main_process = process_index == 0

    def wait_for_everyone(self):
        pass


def journals(folder, **config):
    return image_journals(folder, {"of": "numbers"} | config, Square, 100)


def squared(measured):
    def measure(image):
        measured.append(image)
        if image == 3:
            raise UnreadableImage(image, "it is odd")
        return {"square": image**2}

    return one_by_one(measure)


def test_what_is_missing_is_measured_once(tmp_path, capsys):
    measured = []
    found = measure_missing(Alone(), journals(tmp_path), [0, 3, 4], squared(measured))
    assert found.records == {0: {"square": 0}, 4: {"square": 16}} and found.unreadable == [3]
    assert "warning: image 3 cannot be read: it is odd" in capsys.readouterr().err
    found = measure_missing(Alone(), journals(tmp_path), [5, 4, 0, 3], squared(measured))
    assert measured == [0, 3, 4, 5] and list(found.records) == [5, 4, 0]
    assert "4/4" in capsys.readouterr().err


def test_several_share_the_images_and_resume_as_one(tmp_path, monkeypatch):
    first, second, third = [], [], []
    images = [0, 1, 2, 3, 4]
    monkeypatch.setattr(running, "agreed", lambda state, decide: (images, set()))  # before any has measured
    assert measure_missing(Alone(1, 2), journals(tmp_path), images, squared(second)) is None
    found = measure_missing(Alone(0, 2), journals(tmp_path), images, squared(first))
    assert (first, second) == ([0, 2, 4], [1, 3]) and list(found.records) == [0, 1, 2, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images-0.jsonl", "images-1.jsonl"]
    monkeypatch.undo()
    again = measure_missing(Alone(), journals(tmp_path), images, squared(third))
    assert again == found and third == []


def test_what_is_lost_beside_the_journal_is_measured_again(tmp_path):
    kept, measured = Kept(tmp_path / "kept", lambda tensors: tensors.keys() == {"x"}), []

    def measure(image):
        measured.append(image)
        kept.add(image, {"x": torch.ones(4, 4).T})
        return {"square": image}

    def run():
        return measure_missing(Alone(), journals(tmp_path), [1, 2, 5], one_by_one(measure), kept)

    run()
    before = (tmp_path / "images-0.jsonl").read_bytes()
    (tmp_path / "kept" / "000001.safetensors").unlink()
    (tmp_path / "kept" / "000005.safetensors").write_bytes(b"half")
    assert list(run().records) == [1, 2, 5] and measured == [1, 2, 5, 1, 5]
    assert (tmp_path / "images-0.jsonl").read_bytes() == before and kept.whole(5)
    with pytest.raises(ValueError, match=r"000007\.safetensors"):
        kept.load(7)


def test_journals_of_other_settings_or_records_are_refused(tmp_path):
    measure_missing(Alone(), journals(tmp_path), [1, 10], squared([]))
    with pytest.raises(ValueError, match=r"other settings \(of was 'numbers', is 'letters'\)"):
        measure_missing(Alone(), journals(tmp_path, of="letters"), [1], squared([]))
    path = tmp_path / "images-0.jsonl"
    whole = path.read_text()
    for old, new, said in [
        ('"square": 100', '"square": 101', "it is too large"),
        ('"square"', '"cube"', "square: field required"),
        ('"key": "10"', '"key": "x"', "expected an image's number"),
    ]:
        path.write_text(whole.replace(old, new))
        with pytest.raises(ValueError, match=rf"of {path} is damaged: .*{said}"):
            measure_missing(Alone(), journals(tmp_path), [1], squared([]))


def test_nothing_that_can_be_read_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="none of the 1 images of --data can be read"):
        measure_missing(Alone(), journals(tmp_path), [3], squared([]))


class Result:
    n = 7

    def to_json(self):
        return {"results": [{"arm": "a", "miou": Interval(0.5, 0.25, 0.75, 7)}]}


def test_what_is_published(tmp_path, capsys):
    asked = Running(out=tmp_path, device="cpu", seed=None)
    drawn = plt.figure(figsize=(1, 1))
    views = Views(
        {"arms": lambda report: f"| {report['results'][0]['arm']} |", "none": lambda report: ""},
        {"a": lambda report: drawn, "c": lambda report: None},
    )
    pictures = {"p.png": drawn, "b.png": None}
    publish(
        asked,
        {"arms": ["a"], "path": Path("x"), "data": "beef"},
        Result(),
        {"unreadable": [2]},
        views,
        pictures,
    )
    plt.close(drawn)
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["results"] == [{"arm": "a", "miou": {"value": 0.5, "ci": [0.25, 0.75], "n": 7}}]
    assert (report["n"], report["seed"], report["skipped"]) == (7, 0, {"unreadable": [2]})
    assert report["config"] == {
        "out": str(tmp_path), "seed": 0, "device": "cpu", "dtype": "float32", "arms": ["a"], "path": "x",
        "data": "beef", "data_sha256": "beef",
    }  # fmt: skip
    assert (tmp_path / "table.md").read_text() == "| a |\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.png", "a.svg", "p.png", "report.json", "table.md"
    ]  # fmt: skip
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_the_worst_and_the_best_are_each_shown_once():
    scores = np.array([0.5, 0.1, 0.9, 0.5])
    assert worst_and_best(scores, 1) == [(1, "worst"), (2, "best")]
    assert worst_and_best(scores, 2) == [(1, "worst"), (0, "worst"), (3, "best"), (2, "best")]
    assert worst_and_best(scores, 3) == [(1, "worst"), (0, "worst"), (3, "worst"), (2, "best")]
    assert worst_and_best(scores[:1], 4) == [(0, "worst")]
