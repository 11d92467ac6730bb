"""How experiments report."""

import json
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from eval import report
from tokenrank_guidance import provenance
from tokenrank_guidance.program import run


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


def test_a_report_says_by_which_command_of_which_commit_on_which_weights(monkeypatch, capsys):
    kept = []
    assert (
        run(lambda argv: kept.append(report.provenance({"weights": "abc"}, 0, 1)), ["--data", "a b.png"]) == 0
    )
    assert kept[0]["command"] == "python -m tests.eval.test_report --data 'a b.png'"
    assert kept[0]["weights"] == "abc"
    assert report.provenance({}, 0, 1)["command"] is None and report.provenance({}, 0, 1)["weights"] is None
    provenance.commit.cache_clear()
    found = provenance.commit()
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    git = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (
        found is None
        if git.returncode
        else found is not None and found.removesuffix("-dirty") == git.stdout.strip()
    )
    monkeypatch.setenv("TOKENRANK_COMMIT", "beef")
    provenance.commit.cache_clear()
    assert report.provenance({}, 0, 1)["commit"] == "beef"
    provenance.commit.cache_clear()


def test_a_copy_without_git_has_no_commit(monkeypatch, tmp_path):
    provenance.commit.cache_clear()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() is None
    provenance.commit.cache_clear()


def test_a_report_names_the_device_that_was_asked_for(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    assert report.provenance({}, 0, 1)["device"] == "a GPU"
    assert report.provenance({"device": "cpu"}, 0, 1)["device"].startswith("cpu, ")


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
