"""Benchmarks on a CPU, tried small: what they compare is the same thing, and what they save can be shown."""

import json

import pytest
import torch

from tests.benchmarks import chain, gradients, peers
from tests.benchmarks.peers import HEADER, Layer


@pytest.mark.extended
def test_ways_of_keeping_attention_hold_what_they_say(tmp_path, capsys):
    small = ["--tokens", "36", "--heads", "2", "--dim", "8", "--layers", "3", "--rounds", "1"]
    peers.main([*small, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "report.json").read_text())["results"]
    kept = {row["way"].partition(":")[0]: row["kept_mib"] * 2**20 / 4 for row in rows}  # numbers of 4 bytes
    assert kept["every map"] == 3 * 2 * 36 * 36
    assert kept["one mixed map and the authors' loop"] == 36 * 36 + 36
    assert kept["DAAM's way"] == 3 * 4 * 32
    assert kept["ConceptAttention's way"] == 3 * 2 * 36 * 8
    ours = {
        row["way"].partition(": ")[2]: row["kept_mib"] * 2**20 / 4 for row in rows if "ours" in row["way"]
    }
    assert ours["queries and keys of all layers"] == 2 * 3 * 2 * 36 * 8
    assert ours["TokenRank of each layer, heads' mean"] == 3 * 36
    assert " | ".join(HEADER) in capsys.readouterr().out


def test_the_authors_loop_and_ours_rank_alike():
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 36, 8, generator=g) for _ in range(3))
    layer = Layer(q, k, v, text=4)
    (ours,), (_, theirs) = peers.ranks([layer]), peers.one_mixed_map([layer])
    torch.testing.assert_close(ours, theirs[:, 0], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_chains_are_timed_by_every_number_of_threads(tmp_path):
    threads = torch.get_num_threads()
    try:
        small = [
            "--inputs",
            "gaussian",
            "--tokens",
            "16",
            "--heads",
            "2",
            "--groups",
            "passes",
            "--rounds",
            "1",
        ]
        chain.main([*small, "--threads", "1", "2", "--device", "cpu", "--out", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {row["threads"] for row in report["results"]} == {1, 2}
    assert "| ms, gaussian | 2 × 16 |" in chain.times(report, "gaussian")
    assert chain.times(report, "vit") == ""
    assert "| 1 / 2 threads | gaussian, 2 × 16 |" in chain.threads(report)


@pytest.mark.slow
def test_rankings_with_the_class_in_view_are_timed(tmp_path):
    threads = torch.get_num_threads()
    try:
        small = ["--pixels", "32", "--depth", "2", "--width", "24", "--rounds", "1", "--out", str(tmp_path)]
        gradients.main(small)
    finally:
        torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "report.json").read_text())["results"]
    assert len(rows) == 2 * len(gradients.WAYS) - 1


def test_the_published_rollout_and_ours_rank_alike():
    size = gradients.BASE | {"num_hidden_layers": 2, "hidden_size": 24}
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = gradients.WAYS["gradient_rollout, from queries and keys"](
        gradients.transformers_model(32, size), images
    )
    theirs = gradients.rollout_of_maps(gradients.transformers_model(32, size, "eager"), images)
    torch.testing.assert_close(ours, theirs / theirs.mean(-1, keepdim=True), rtol=1e-4, atol=1e-6)
