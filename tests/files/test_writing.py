"""Files appear together or not at all."""

import json
import os
from pathlib import Path

import pytest

from tokenrank_guidance.files.writing import check_writable, staged, staged_file, write_text, write_whole


def write_and_fail(folder: Path, error: type[BaseException]) -> None:
    with staged(folder) as scratch:
        (scratch / "x").write_text("never")
        raise error


def test_files_appear_at_the_end(tmp_path):
    folder = tmp_path / "a" / "b"
    with staged(folder) as scratch:
        (scratch / "x").write_text("new")
        (scratch / "result.json").write_text("{}")
        assert [path.name for path in folder.iterdir()] == [scratch.name]
    assert {path.name for path in folder.iterdir()} == {"x", "result.json"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_appears_after_a_failure(tmp_path, error):
    with pytest.raises(error):
        write_and_fail(tmp_path / "a" / "b", error)
    assert list(tmp_path.iterdir()) == []


def test_earlier_files_are_replaced_or_left(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).write_text("old")
    with staged(tmp_path) as scratch:
        (scratch / "x").write_text("new")
    assert [(tmp_path / name).read_text() for name in ("x", "y")] == ["new", "old"]
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path, RuntimeError)
    assert (tmp_path / "x").read_text() == "new"


def test_file_in_the_way_is_found_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to"), staged(tmp_path / "file" / "folder"):
        pytest.fail("the block ran")


def test_a_result_replaces_the_earlier_one_whole_and_nothing_else(tmp_path):
    def write(names: list[str]) -> None:
        with staged(tmp_path) as scratch:
            for name in names:
                (scratch / name).write_text(name)
            (scratch / "result.json").write_text(
                json.dumps({"files": [f"elsewhere/{name}" for name in names]})
            )

    (tmp_path / "mine.txt").write_text("not listed")
    write(["a.png", "b.png"])
    write(["b.png", "c.png"])
    assert {path.name for path in tmp_path.iterdir()} == {"b.png", "c.png", "mine.txt", "result.json"}


@pytest.mark.parametrize(
    "result", ["", "[1]", '{"files": 3}', '{"files": [3, ".."]}', '{"files": ["", "sub"]}']
)
def test_an_earlier_result_that_is_none_removes_nothing(tmp_path, result):
    (tmp_path / "sub").mkdir()
    (tmp_path / "result.json").write_text(result)
    with staged(tmp_path) as scratch:
        (scratch / "x").write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"sub", "x"}


def test_a_second_run_at_once_is_refused_and_the_first_one_ends_well(tmp_path):
    with staged(tmp_path) as scratch:
        (scratch / "x").write_text("first")
        with pytest.raises(OSError, match="is being written by another run"), staged(tmp_path):
            pytest.fail("the block ran")
        with staged_file(tmp_path / "one.png") as other:
            (other / "one.png").write_text("beside")
    assert {path.name for path in tmp_path.iterdir()} == {"x", "one.png"}


@pytest.mark.parametrize("write", [staged, lambda folder: staged_file(folder / "x")], ids=["folder", "file"])
def test_what_a_killed_run_has_left_is_swept(tmp_path, write):
    (tmp_path / ".tokenrank-killed").mkdir()
    (tmp_path / ".tokenrank-killed" / "half.png").write_text("")
    with write(tmp_path) as scratch:
        (scratch / "x").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_text(path, '{"x": 1}')

    def half(scratch):
        scratch.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, half)
    assert json.loads(path.read_text()) == {"x": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_files_are_as_public_as_any_other(tmp_path):
    write_text(tmp_path / "a", "ü")
    (tmp_path / "b").write_text("ü")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"^cannot write to .*file/x\.json: "):
        write_text(tmp_path / "file" / "x.json", "{}")


def test_writing_one_file_sweeps_nothing(tmp_path):
    """Other processes write beside it, and a folder of thousands is not looked through each time."""
    (tmp_path / ".tokenrank-other").mkdir()
    write_text(tmp_path / "x", "new")
    assert {path.name for path in tmp_path.iterdir()} == {".tokenrank-other", "x"}


def test_a_folder_is_made_or_said_to_be_unwritable(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="cannot write to"):
        check_writable(tmp_path / "file" / "folder")
