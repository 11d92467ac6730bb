"""The benchmark for a GPU, tried small on a CPU: it runs, saves what it measured, and survives a failure."""

import json

import pytest

from tests.benchmarks import gpu
from tests.benchmarks.gpu_sections import SECTIONS, Section

HERE = [name for name in SECTIONS if name not in ("first", "compiling")]  # these start processes


def measured(path, *more):
    gpu.main(["--small", "--device", "cpu", "--out", str(path), *more])
    return json.loads(path.read_text())["sections"]


@pytest.mark.extended
def test_every_section_runs_and_is_saved(tmp_path, capsys):
    sections = measured(tmp_path / "out.json", "--only", *HERE)
    printed = capsys.readouterr().out
    assert all(f"### {name}" in printed for name in HERE)
    assert list(sections) == HERE
    for name, section in sections.items():
        assert section["error"] is None, f"{name}: {section['error']}"
        assert section["rows"]
    numbers = {row["what"]: row["value"] for row in sections["steps"]["rows"]}
    assert numbers["float32, batch 1: guided step"] > numbers["float32, batch 1: unguided step"] > 0


def test_a_section_that_fails_stops_no_other(tmp_path, monkeypatch):
    def fails(bench):
        bench.add("before", 1.0)
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(SECTIONS, "scoring", Section(fails, 5))
    sections = measured(tmp_path / "out.json", "--only", "scoring", "syncs")
    assert sections["scoring"]["error"] == "RuntimeError: no such kernel"
    assert sections["scoring"]["rows"] == [{"what": "before", "value": 1.0, "unit": "ms"}]
    assert sections["syncs"]["rows"] and sections["syncs"]["error"] is None


def test_no_section_begins_when_time_is_up(tmp_path):
    sections = measured(tmp_path / "out.json", "--only", "flux", "--seconds", "1")
    assert sections["flux"]["error"].startswith("skipped")


@pytest.mark.slow
def test_sections_in_processes_of_their_own(tmp_path):
    sections = measured(tmp_path / "out.json", "--only", "first", "compiling")
    found = {row["what"] for section in sections.values() for row in section["rows"]}
    assert {"step: first guided step", "rank: second", "compiled: third"} <= found
    assert not any("failed" in what for what in found)
