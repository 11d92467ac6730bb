"""Reports as JSON."""

import json

import numpy as np
import torch

from tokenrank_guidance.interval import Interval
from tokenrank_guidance.program import results_only
from tokenrank_guidance.report import emit, plain


def test_what_json_cannot_hold():
    value = {
        1: np.float32(0.5),
        "n": float("nan"),
        "a": np.array([1.0, np.inf]),
        "t": torch.tensor(2),
        "s": {2, 1},
    }
    assert plain(value) == {"1": 0.5, "n": None, "a": [1.0, None], "t": 2, "s": [1, 2]}
    assert plain(Interval(1.0, float("nan"), 2.0, 3))["ci"] == [None, 2.0]
    assert plain([True, None, "x"]) == [True, None, "x"]


def test_emit_writes_what_it_prints(tmp_path, capsys):
    emit({"x": 1}, tmp_path / "deep" / "out")
    printed = capsys.readouterr().out
    assert (tmp_path / "deep" / "out" / "report.json").read_text() == printed
    assert json.loads(printed) == {"x": 1}


def test_only_results_reach_stdout(tmp_path, capsys):
    with results_only():
        print("chatter")
        emit({"x": 1}, tmp_path)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"x": 1}
    assert captured.err == "chatter\n"
