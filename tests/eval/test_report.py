"""How experiments report."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from eval import report


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
