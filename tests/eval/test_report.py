"""Reports, tables and figures."""

import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from eval import report
from eval.streams import results_only
from tokenrank_guidance.interval import Interval


def test_a_report_says_where_it_came_from():
    found = report.provenance({"data": Path("x.parquet"), "layers": (1, 2)}, 3, 500)
    assert found["config"] == {"data": "x.parquet", "layers": [1, 2]}
    assert (found["seed"], found["n"]) == (3, 500)
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert {"tokenrank-guidance", "diffusers", "transformers", "torch-fidelity", "python"} <= set(
        found["versions"]
    )
    assert found["date"].endswith("+00:00")
    json.dumps(found)


def test_what_json_cannot_hold():
    value = {
        1: np.float32(0.5),
        "n": float("nan"),
        "a": np.array([1.0, np.inf]),
        "t": torch.tensor(2),
        "s": {2, 1},
    }
    assert report.plain(value) == {"1": 0.5, "n": None, "a": [1.0, None], "t": 2, "s": [1, 2]}
    assert report.plain(Interval(1.0, float("nan"), 2.0, 3))["ci"] == [None, 2.0]
    assert report.plain([True, None, "x"]) == [True, None, "x"]


def test_emit_writes_what_it_prints(tmp_path, capsys):
    report.emit({"x": 1}, tmp_path / "deep" / "out")
    printed = capsys.readouterr().out
    assert (tmp_path / "deep" / "out" / "report.json").read_text() == printed
    assert json.loads(printed) == {"x": 1}


def test_only_results_reach_stdout(tmp_path, capsys):
    with results_only():
        print("chatter")
        report.emit({"x": 1}, tmp_path)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"x": 1}
    assert captured.err == "chatter\n"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    report.write_json(path, {"x": 1})

    def half(scratch):
        scratch.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report.write_whole(path, half)
    assert json.loads(path.read_text()) == {"x": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_files_are_as_public_as_any_other(tmp_path):
    report.write_text(tmp_path / "a", "ü")
    (tmp_path / "b").write_text("ü")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*file/x\.json"):
        report.write_json(tmp_path / "file" / "x.json", {})


def test_figures_are_the_same_every_time(tmp_path):
    figure, axes = plt.subplots()
    axes.plot([1, 2], label="x")
    for suffix in ("png", "svg"):
        for name in "ab":
            report.save_figure(figure, tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with pytest.raises(ValueError, match=r"ends in '\.gif'; expected \.png or \.svg"):
        report.save_figure(figure, tmp_path / "a.gif")
    plt.close(figure)


def test_a_table():
    rows = [{"scorer": "a|b", "auc": 0.123456, "n": 3}, {"scorer": "c", "auc": None}]
    assert report.markdown_table(rows, ("scorer", "auc", "n")).splitlines() == [
        "| scorer | auc | n |",
        "| --- | ---: | ---: |",
        "| a\\|b | 0.1235 | 3 |",
        "| c | – | – |",
    ]
