"""`python -m eval.guidance`: masks and looks by scipy, and the program on a tiny random model."""

import json
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import laplace
from scipy.stats import spearmanr

from eval.generate.prompts import Prompts
from eval.guidance.command import Task, main
from eval.guidance.measure import SCORERS, agreement, look
from tests.eval.squares import write_squares
from tests.tiny_models import pipeline
from tokenrank_guidance.program import run


def test_masks_agree_as_counted_by_hand():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (3, len(SCORERS), 2, 12)) / 2  # with ties
    found = agreement(scores)
    for image in range(2):
        for i, name in enumerate(SCORERS):
            steps = [(step[i, image], step[0, image]) for step in scores]
            sets = [(set(np.flatnonzero(a > 1)), set(np.flatnonzero(b > 1))) for a, b in steps]
            expected = {
                "share": np.mean([len(a) / 12 for a, _ in sets]),
                "overlap": np.mean([len(a & b) / len(a | b) for a, b in sets]),
                "correlation": np.mean([spearmanr(a, b).statistic for a, b in steps]),
            }
            assert found[image][name] == pytest.approx(expected)


def test_scores_that_are_all_equal_correlate_with_nothing():
    found = agreement(np.ones((2, len(SCORERS), 1, 9)))
    assert found == [{key: {"share": 0, "overlap": 0, "correlation": 0} for key in SCORERS}]


def test_looks_are_scipys():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    found = look(Image.fromarray(pixels))
    sharpness = np.abs(laplace(pixels.mean(-1) / 255)[1:-1, 1:-1]).mean()
    assert found == pytest.approx({"contrast": (pixels / 255).std(), "sharpness": sharpness})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    pipeline("sd").save_pretrained(folder)
    return folder


def arguments(model, out, *more):
    prompts = out.parent / "prompts.txt"
    prompts.write_text("a cat\na dog\n")
    given = ("--model", model, "--prompts", prompts, "--steps", "2", "--out", out, "--device", "cpu")
    return [str(one) for one in (*given, *more)]


def test_measures_resumes_and_shows(model, tmp_path, capsys, figures):
    arms = ("--arms", "none,tokenrank:scale=2", "--pictures", "2")
    real = ("--reference", write_squares(tmp_path, 5) / "images")  # the third cannot be read
    assert run(main, arguments(model, tmp_path / "out", *arms, "--n", "1")) == 0
    capsys.readouterr()
    assert run(main, arguments(model, tmp_path / "out", *arms, *real, "--n", "3", "--batch-size", "2")) == 0
    report = json.loads(capsys.readouterr().out)
    journal = (tmp_path / "out" / "images-0.jsonl").read_text()
    assert [line.split('"')[3] for line in journal.splitlines()[1:]] == ["0", "1", "2"]
    assert [row["arm"] for row in report["results"]] == ["none", "tokenrank:scale=2", "real images"]
    assert [row["contrast"]["n"] for row in report["results"]] == [3, 3, 2]
    assert report["config"]["arms"] == list(report["config"]["guidance"]) == ["none", "tokenrank:scale=2"]
    own, other = report["masks"][:2]
    assert [own[key]["value"] for key in ("overlap", "correlation")] == pytest.approx([1, 1])
    assert 0 < other["overlap"]["value"] < 1
    plain, guided = (row["contrast"]["value"] for row in report["results"][:2])
    (less,) = report["differences"]
    assert less["metrics"]["contrast"]["value"] == pytest.approx(guided - plain) and guided != plain
    assert "real images" in (tmp_path / "out" / "table.md").read_text()


def test_images_are_taken_as_they_are_drawn():
    """A bar over them goes on with the work."""
    taken, task = [], Task(Prompts(("",), (None,)), [], None, 0, 2, {})
    images = (taken.append(i) or i for i in range(5))
    with patch.object(Task, "_masks", lambda self, batch: [{} for _ in batch]):
        records = task.records(images)
        next(records)
        assert taken == [0, 1]
        assert [image for image, _ in records] == [1, 2, 3, 4]


def test_says_what_an_arm_cannot_do(model, tmp_path, capsys):
    assert run(main, arguments(model, tmp_path / "out", "--arms", "tokenrank:layers=nowhere")) == 2
    assert "nowhere" in capsys.readouterr().err and not (tmp_path / "out").exists()
