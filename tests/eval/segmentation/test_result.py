"""What the report says of tallies made by hand."""

import pytest

from eval.segmentation.arms import grid_of_arms
from eval.segmentation.result import SegmentationResult
from eval.segmentation.store import ImageRecord
from eval.segmentation.tally import ClassTally
from eval.segmentation.views import VIEWS
from tokenrank_guidance.report import plain


def record(right, seconds=1.0):
    """A picture of one class of ten pixels."""
    return ImageRecord([ClassTally(1, 10, 10, right, right / 10)], 3, 0.5, seconds, 2.0)


def result(pictures, thresholds=(0.5,), **more):
    arms = grid_of_arms(("uniform", "tokenrank-grid"), thresholds)
    return SegmentationResult(arms, ("background", "object"), pictures, **more)


def test_values_intervals_and_differences():
    uniform, ranked = [2, 4, 6, 8] * 5, [3, 5, 7, 9] * 5
    found = result([[record(a), record(b, 3.0)] for a, b in zip(uniform, ranked, strict=True)])
    report = plain(found.to_json())
    first, second = report["results"]
    assert first["pixel_accuracy"]["value"] == pytest.approx(0.5)
    assert second["best_overlap"]["value"] == pytest.approx(0.6)
    assert first["miou"]["value"] == pytest.approx(100 / (400 - 100))
    low, high = first["pixel_accuracy"]["ci"]
    assert 0.35 < low < 0.5 < high < 0.65 and first["pixel_accuracy"]["n"] == 20
    assert (first["attention_seconds"], second["seconds_per_image"]) == (2.0, 5.0)
    assert first["data_set"] is None
    (less,) = report["differences"]
    assert (less["a"], less["b"]) == (second["arm"], first["arm"]) == ("tokenrank-grid@0.5", "uniform@0.5")
    assert less["metrics"]["pixel_accuracy"] == {
        "value": pytest.approx(0.1),
        "ci": [pytest.approx(0.1), pytest.approx(0.1)],
        "n": 20,
        "p": pytest.approx(1 / 4001),  # no exchange of 20 alike differences makes as large a one
        "p_holm": pytest.approx(1 / 4001),
    }
    assert less["metrics"]["miou"]["ci"][0] > 0
    assert less["metrics"].keys() == {"pixel_accuracy", "mean_class_accuracy", "miou", "best_overlap"}
    [row] = second["per_class"]
    assert row["class"] == "object" and row["pixels"] == 200 and row["images"] == 20
    assert row["iou"] == pytest.approx(120 / 280)
    lines = VIEWS.markdown(plain(found.to_json() | {"n": found.n})).splitlines()
    assert len(lines) == 5 and "| uniform | 0.5 | 0.500 |" in lines[2] and "+0.095" in lines[3]


def test_the_best_threshold_and_the_order_of_pictures():
    pictures = [[record(1), record(9), record(5), record(4)], [record(2), record(8), record(5), record(4)]]
    found = result(pictures, (0.5, "auto"))
    assert found.best == {"uniform": 1, "tokenrank-grid": 2}
    assert found.scores.argsort().tolist() == [1, 0]
    assert "auto (0.5)" in VIEWS.markdown(plain(found.to_json() | {"n": found.n}))


def test_matching_over_the_data_set():
    own = [[ClassTally(1, 10, 10, 10, 1.0)]]
    found = result([[record(5), record(5)]], data_set=[own, own])
    row = plain(found.to_json())["results"][0]
    assert row["miou"]["value"] == pytest.approx(1 / 3)
    # Of a single picture there is no interval.
    assert row["data_set"]["miou"] == {"value": 1.0, "ci": [None, None], "n": 1}


def test_one_segment_is_the_floor():
    """Of 12 + 4 pixels the whole picture takes the larger class: 12 right, IoU 12/16 and 0."""
    classes = [ClassTally(0, 12, 0, 0, 0.1), ClassTally(1, 4, 0, 0, 0.2)]
    picture = [ImageRecord(classes, 3, 0.5, 1.0, 1.0)] * 2
    floor = plain(result([picture, picture]).to_json()["one_segment"])
    value = {name: floor[name]["value"] for name in floor.keys() - {"segments", "n"}}
    assert value["pixel_accuracy"] == 0.75 and value["miou"] == pytest.approx(0.375)
    assert value["mean_class_accuracy"] == 0.5 and value["best_overlap"] == pytest.approx(0.5)
