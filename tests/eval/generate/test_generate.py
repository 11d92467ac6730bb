"""Drawing: the same bytes however the work is split, nothing twice, nothing lost, mistakes in one line."""

import fcntl
import json
import resource
import shutil
import subprocess
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from eval.fidelity import open_generated
from eval.generate import command, store
from eval.generate.draw import Drawing
from tests.eval.generate.conftest import images, pixels

ARMS = ("--arms", "none,sag,tokenrank", "--n", 5, "--batch-size", 2)


class Part:
    """One of several processes, which run one after the other here."""

    def __init__(self, index, count):
        self.process_index, self.num_processes, self.is_main_process = index, count, index == 0

    def split_between_processes(self, items):
        return nullcontext(items[self.process_index :: self.num_processes])

    def wait_for_everyone(self):
        pass


@pytest.fixture
def drawn(monkeypatch):
    """The seeds of every image that was drawn."""
    seeds = []
    call = Drawing.__call__

    def noted(drawing, jobs):
        seeds.extend((drawing.arm.text, job.seed) for job in jobs)
        return call(drawing, jobs)

    monkeypatch.setattr(Drawing, "__call__", noted)
    return seeds


def test_what_is_written(draw, tmp_path):
    report = draw(*ARMS, "--seed", 7)
    out = tmp_path / "out"
    assert [row["arm"] for row in report["results"]] == ["none", "sag", "tokenrank"]
    assert len(images(out)) == 15
    assert pixels(out / "sag" / "000" / "000004.png").shape == (32, 32, 3)
    manifest = json.loads((out / "sag" / "manifest.json").read_text())
    assert (manifest["n"], manifest["seed"], manifest["labels"][1]) == (5, 7, "bicycle")
    assert manifest["settings"]["versions"]["torch"] and {"command", "commit"} <= set(manifest)
    assert len({*images(out / "sag").values()}) == 5


def test_cost_counts_what_the_denoiser_was_given(draw, tmp_path):
    rows = draw(*ARMS)["results"]
    assert [row["cost"]["denoiser_evaluations"] for row in rows] == [4, 5, 5]  # the first step is noise alone
    assert all(row["cost"]["seconds_per_image"]["value"] > 0 for row in rows)
    half = draw("--arms", "sag:every=2", "--n", 1, "--steps", 3, out=tmp_path / "half")["results"][0]
    assert half["cost"]["denoiser_evaluations"] == 6 + 1


def test_image_is_of_its_own_seed_and_prompt(draw, tmp_path):
    draw("--arms", "none", "--n", 4, "--batch-size", 2, "--seed", 16)
    draw("--arms", "none", "--n", 2, "--batch-size", 2, "--seed", 18, "--prompts", tmp_path / "p.txt", code=2)
    (tmp_path / "p.txt").write_text("a photo of a boat\na photo of a car\n")
    draw(
        *("--arms", "none", "--n", 2, "--batch-size", 2, "--seed", 18, "--prompts", tmp_path / "p.txt"),
        out=tmp_path / "other",
    )
    all_, other = images(tmp_path / "out" / "none"), images(tmp_path / "other" / "none")
    assert [all_[f"000/00000{i}.png"] for i in (2, 3)] == list(other.values())


@pytest.mark.extended
def test_two_processes_give_the_same_bytes(draw, tmp_path, monkeypatch):
    draw(*ARMS)
    everything = (store.micro_batches(5, 2), {})
    for index in (1, 0):  # the main process last, since here they do not wait for one another
        monkeypatch.setattr(command, "join_processes", lambda device, index=index: Part(index, 2))
        monkeypatch.setattr(command._Run, "_agreed", lambda run, arm: everything)
        printed = draw(*ARMS, out=tmp_path / "split")
        assert (printed is not None) == (index == 0)
    assert images(tmp_path / "split") == images(tmp_path / "out")
    journals = sorted(path.name for path in (tmp_path / "split" / "sag").glob("*.jsonl"))
    assert journals == ["batches-0.jsonl", "batches-1.jsonl"]


def test_interruption_resumes_with_the_same_bytes(draw, tmp_path, monkeypatch, drawn):
    draw(*ARMS)
    total = len(drawn)
    drawn.clear()
    write, written = store.write_whole, []

    def stopped(path, fill):
        written.append(path)
        if len(written) == 8:
            raise KeyboardInterrupt
        write(path, fill)

    monkeypatch.setattr(store, "write_whole", stopped)
    assert "resumes" in draw(*ARMS, out=tmp_path / "resumed", code=130)
    assert not (tmp_path / "resumed" / "sag" / "manifest.json").exists()
    monkeypatch.setattr(store, "write_whole", write)
    draw(*ARMS, out=tmp_path / "resumed")
    assert images(tmp_path / "resumed") == images(tmp_path / "out")
    assert len(drawn) == total + 2  # the batch whose writing was stopped, and no other
    drawn.clear()
    draw(*ARMS, out=tmp_path / "resumed")
    assert drawn == []


def test_lost_and_cut_off_images_are_drawn_again(draw, tmp_path, drawn):
    draw(*ARMS)
    before = images(tmp_path / "out")
    drawn.clear()
    (tmp_path / "out" / "none" / "000" / "000003.png").unlink()
    (tmp_path / "out" / "sag" / "000" / "000000.png").write_bytes(b"half")
    draw(*ARMS)
    assert drawn == [("none", 2), ("none", 3), ("sag", 0), ("sag", 1)]
    assert images(tmp_path / "out") == before


def test_a_larger_n_keeps_what_is_there(draw, tmp_path, drawn):
    draw("--arms", "none", "--n", 4, "--batch-size", 2)
    before = images(tmp_path / "out")
    drawn.clear()
    draw("--arms", "none", "--n", 5, "--batch-size", 2)
    after = images(tmp_path / "out")
    assert len(after) == 5 and before.items() <= after.items()
    assert [seed for _, seed in drawn] == [4, 5]


def test_a_smaller_n_takes_nothing_away(draw, tmp_path, capsys):
    draw("--arms", "none", "--n", 4, "--batch-size", 2)
    before = (tmp_path / "out" / "none" / "manifest.json").read_bytes()
    (row,) = draw("--arms", "none", "--n", 3, "--batch-size", 2)["results"]
    assert row["n"] == 3
    assert (tmp_path / "out" / "none" / "manifest.json").read_bytes() == before
    assert len(images(tmp_path / "out")) == 4


def test_an_image_damaged_at_its_size_is_drawn_again(draw, tmp_path, drawn):
    draw("--arms", "none", "--n", 4, "--batch-size", 2)
    before = images(tmp_path / "out")
    path = tmp_path / "out" / "none" / "000" / "000002.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    drawn.clear()
    draw("--arms", "none", "--n", 4, "--batch-size", 2)
    assert images(tmp_path / "out") == before and [seed for _, seed in drawn] == [2, 3]


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("manifest.json", '"n": 2', '"n": 1000000000000'),
        ("manifest.json", '"n": 2', '"n": -1'),
        ("manifest.json", '"n": 2', '"n": "2"'),
        ("manifest.json", '"png"', '"../../x"'),
        ("manifest.json", '"labels"', '"babels"'),
        ("manifest.json", '"settings"', '"sittings"'),
        ("batches-0.jsonl", '"key": "0"', '"key": "zero"'),
        ("batches-0.jsonl", '"bytes": [', '"bytes": [1, '),
        ("batches-0.jsonl", '"seconds"', '"minutes"'),
    ],
)
def test_a_damaged_file_of_the_arm_is_one_line_that_says_what_to_do(draw, tmp_path, name, old, new):
    draw("--arms", "none", "--n", 2, "--batch-size", 2)
    path = tmp_path / "out" / "none" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    mistake = draw("--arms", "none", "--n", 2, "--batch-size", 2, code=2)
    assert str(path) in mistake and "is damaged: " in mistake and "remove " in mistake
    if name == "manifest.json":
        with pytest.raises(ValueError, match="is damaged"):
            open_generated([path.parent])


def test_another_batch_size_differs_by_rounding_at_most(draw, tmp_path):
    draw("--arms", "tokenrank", "--n", 4, "--batch-size", 4)
    draw("--arms", "tokenrank", "--n", 4, "--batch-size", 1, out=tmp_path / "single")
    for path in sorted((tmp_path / "single").rglob("*.png")):
        twin = tmp_path / "out" / path.relative_to(tmp_path / "single")
        assert np.abs(pixels(path) - pixels(twin)).max() <= 1


def test_other_settings_are_refused_and_nothing_is_touched(draw, tmp_path):
    draw(*ARMS)
    before = images(tmp_path / "out")
    mistake = draw(*ARMS, "--cfg", 2, code=2)
    assert "cfg was 4.0, is 2.0" in mistake and "other settings" in mistake
    assert images(tmp_path / "out") == before


def test_a_full_disk_is_one_line(draw, tmp_path, monkeypatch):
    def full(path, fill):
        raise OSError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(store, "write_whole", full)
    assert "No space left" in draw(*ARMS, code=2)
    monkeypatch.undo()
    draw(*ARMS)
    assert len(images(tmp_path / "out")) == 15


@contextmanager
def largest_file(size):
    """Writing beyond `size` bytes of a file fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.extended
@pytest.mark.parametrize(("size", "name"), [(100, "batches-0.jsonl"), (None, ".png")])
def test_a_write_that_the_system_refuses_is_one_line_and_loses_nothing(draw, tmp_path, size, name):
    draw("--arms", "none", "--n", 5, "--batch-size", 2)
    smallest = min(path.stat().st_size for path in (tmp_path / "out").rglob("*.png"))
    with largest_file(size or smallest - 1):
        mistake = draw("--arms", "none", "--n", 5, "--batch-size", 2, out=tmp_path / "full", code=2)
    assert mistake.startswith("error: ") and "File too large" in mistake and name in mistake
    assert not list((tmp_path / "full").rglob("manifest.json"))
    draw("--arms", "none", "--n", 5, "--batch-size", 2, out=tmp_path / "full")
    assert images(tmp_path / "full") == images(tmp_path / "out")


@pytest.fixture
def disk(tmp_path):
    """A file system of 40 kB; `disk.grow()` makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return (
            shutil.which("mount") is not None and not subprocess.run(command, capture_output=True).returncode
        )

    if not mount("size=40k"):
        pytest.skip("mounting a tmpfs is not allowed here")
    yield Disk(folder, lambda: mount("remount,size=8m"))
    subprocess.run(["umount", str(folder)], check=True)


class Disk(NamedTuple):
    folder: Path
    grow: Callable[[], bool]


@pytest.mark.extended
def test_a_disk_that_is_full_is_one_line_and_loses_nothing(draw, disk, tmp_path, drawn):
    draw(*ARMS)
    drawn.clear()
    assert "No space left on device" in draw(*ARMS, out=disk.folder / "out", code=2)
    before, first = images(disk.folder / "out"), list(drawn)
    assert 0 < len(before) < 15
    assert disk.grow()
    draw(*ARMS, out=disk.folder / "out")
    after = images(disk.folder / "out")
    assert after == images(tmp_path / "out") and before.items() <= after.items()
    assert len(drawn) == len(set(drawn)) + len({*first[-2:]})  # again only the batch that did not fit


def test_a_folder_drawn_with_another_default_is_refused(draw, tmp_path):
    draw(*ARMS)
    manifest = tmp_path / "out" / "sag" / "manifest.json"
    written = json.loads(manifest.read_text())
    written["settings"]["guidance"]["keep_contrast"] = 0.0
    manifest.write_text(json.dumps(written))
    before = images(tmp_path / "out")
    mistake = draw(*ARMS, code=2)
    assert "has results of other settings (guidance.keep_contrast was 0.0, is 1.0)" in mistake
    assert images(tmp_path / "out") == before


def test_a_manifest_of_other_settings_is_refused_and_nothing_is_touched(draw, tmp_path):
    draw(*ARMS)
    folder = tmp_path / "out" / "sag"
    (folder / "batches-0.jsonl").unlink()
    before = images(tmp_path / "out")
    mistake = draw(*ARMS[2:], "--arms", "sag", "--cfg", 2, code=2)
    assert "manifest.json has results of other settings (cfg was 4.0, is 2.0)" in mistake
    (folder / "manifest.json").write_text('{"n": 5')
    assert "manifest.json is damaged" in draw(*ARMS, code=2)
    assert images(tmp_path / "out") == before


def test_another_image_of_the_same_size_is_not_taken_for_this_one(draw, tmp_path):
    draw("--arms", "none", "--n", 2, "--batch-size", 2)
    before = images(tmp_path / "out")
    folder = tmp_path / "out" / "none"
    for name in ("batches-0.jsonl", "manifest.json"):
        (folder / name).unlink()
    path = folder / "000" / "000001.png"
    path.write_bytes(bytes(len(path.read_bytes())))
    draw("--arms", "none", "--n", 2, "--batch-size", 2)
    assert images(tmp_path / "out") == before


def test_a_folder_where_another_run_is_at_work_is_refused(draw, tmp_path):
    draw("--arms", "none", "--n", 2, "--batch-size", 2)
    with (tmp_path / "out" / "none" / "batches-0.jsonl").open("ab") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert "in use by another process" in draw("--arms", "none", "--n", 3, "--batch-size", 2, code=2)


def test_what_a_killed_run_was_writing_is_removed(draw, tmp_path):
    draw("--arms", "none", "--n", 3, "--batch-size", 2)
    before = images(tmp_path / "out")
    (tmp_path / "out" / "none" / "000" / ".x7_abc.png").write_bytes(b"half")
    draw("--arms", "none", "--n", 3, "--batch-size", 2)
    assert images(tmp_path / "out") == before


ABSENT = [("sdxl", "pag:layers=nowhere"), ("sdxl", "sag:layers=99"), ("tiny-flux", "sag:layers=x")]


@pytest.mark.parametrize(("name", "arm"), ABSENT)
def test_no_arm_is_drawn_where_another_ones_layer_is_not_there(draw, tmp_path, drawn, name, arm):
    layer = arm.partition("=")[2]
    options = ("--prompts", "empty", "--height", 32, "--width", 32)
    assert layer in draw("--arms", f"none,{arm}", "--n", 1, *options, name=name, code=2)
    assert drawn == [] and not list((tmp_path / "out").rglob("*.png"))


def test_no_arm_is_drawn_where_another_one_has_other_settings(draw, tmp_path, drawn):
    draw("--arms", "sag", "--n", 1, "--batch-size", 1)
    drawn.clear()
    mistake = draw("--arms", "none,sag", "--n", 1, "--batch-size", 1, "--cfg", 2, code=2)
    assert "other settings (cfg was 4.0, is 2.0)" in mistake and drawn == []
    (tmp_path / "file").write_text("x")
    assert "cannot write" in draw("--arms", "none", "--n", 1, out=tmp_path / "file", code=2)
    assert drawn == []


def test_pag_where_diffusers_has_it_and_a_reason_elsewhere(draw):
    size = ("--height", 32, "--width", 32, "--prompts", "empty")
    (row,) = draw("--arms", "pag:scale=2", "--n", 2, *size, name="sdxl")["results"]
    assert row["cost"]["denoiser_evaluations"] == 6
    mistake = draw("--arms", "none,pag", "--n", 2, code=2)
    assert "no PAG for FluxPipeline" in mistake


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--arms", "dag"), "dag"),
        (("--arms", "sag:strength=1"), "strength"),
        (("--arms", "sag:scale=much"), "much"),
        (("--arms", "sag:start=2"), "start"),
        (("--arms", "sag:layers=nowhere"), "nowhere"),
        (("--n", "0"), "--n"),
        (("--n", "1000001"), "1000000"),
        (("--prompts", "no-such-file"), "no-such-file"),
        (("--batch-size", "0"), "--batch-size"),
        (("--format", "jpg"), "jpg"),
    ],
)
def test_mistakes_are_one_line(draw, tmp_path, options, words):
    given = ("--n", 2) if "--n" not in options else ()
    assert words in draw(*given, *options, code=2)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_model_without_classes_wants_prompts(draw):
    assert "--prompts FILE" in draw("--n", 2, name="sdxl", code=2)


def test_micro_batches_are_aligned_with_the_index():
    batches = store.micro_batches(10, 4)
    assert batches == [range(0, 4), range(4, 8), range(8, 12)]
    assert all(a.stop == b.start for a, b in pairwise(batches))
