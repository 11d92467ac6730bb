import json

import pytest

from eval.segmentation.arms import MEASURES, Arm, baseline, best_thresholds, chosen_arms, grid_of_arms


def test_every_choice_at_every_threshold():
    arms = grid_of_arms(("uniform", "tokenrank-grid"), (0.5, "auto"))
    assert [arm.key for arm in arms] == [
        "uniform@0.5",
        "uniform@auto",
        "tokenrank-grid@0.5",
        "tokenrank-grid@auto",
    ]
    assert [baseline(arms, i) for i in range(4)] == [None, None, 0, 1]
    assert [arm.reads_rank for arm in arms] == [False, False, True, True]


def test_what_others_are_compared_with():
    own = [Arm("uniform", 0.4), Arm("tokenrank-topk", 0.6)]
    assert baseline(own, 1) == 0  # τ chosen for each: the only one there is
    grid = [Arm("uniform", 0.4), Arm("uniform", 0.5), Arm("tokenrank-topk", 0.6)]
    assert baseline(grid, 2) is None
    both = [Arm("reference", 1.1), Arm("tokenrank-grid", 1.1), Arm("uniform", 1.1)]
    assert [baseline(both, i) for i in range(3)] == [2, 2, None]
    assert baseline([Arm("tokenrank-grid", 1.1)], 0) is None


def test_the_best_threshold_of_a_report(tmp_path):
    def row(threshold, miou, accuracy):
        figures = dict.fromkeys(MEASURES, 0.0) | {"miou": miou, "pixel_accuracy": accuracy}
        spelt = {name: {"value": value, "ci": [0.0, 1.0], "n": 2} for name, value in figures.items()}
        return {"anchors": "uniform", "kl_threshold": threshold, **spelt}

    rows = [row(0.5, 0.3, 0.9), row("auto", 0.4, 0.8), row(0.7, 0.4, 0.7)]
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"results": rows}))
    assert best_thresholds(report, "miou") == {"uniform": "auto"}
    assert chosen_arms(["uniform"], best_thresholds(report, "pixel_accuracy")) == [Arm("uniform", 0.5)]
    with pytest.raises(ValueError, match="no threshold is known for tokenrank-nms, only for uniform"):
        chosen_arms(["tokenrank-nms"], {"uniform": 0.5})
    for wrong in ("{}", "[", '{"results": [{"anchors": "uniform"}]}'):
        report.write_text(wrong)
        with pytest.raises(ValueError, match=r"is not a report of eval\.segmentation"):
            best_thresholds(report, "miou")
