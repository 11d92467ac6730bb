"""Files appear together or not at all."""

from pathlib import Path

import pytest

from tokenrank_guidance.commands.output import staged


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
