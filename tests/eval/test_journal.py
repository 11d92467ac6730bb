"""Work that is interrupted goes on, and loses and repeats nothing."""

import os
import signal
import subprocess
import sys

import pytest

from eval.journal import Journal

CONFIG = {"data": "abc", "limit": 3}


def test_finished_items_are_there_again(tmp_path):
    path = tmp_path / "deep" / "journal.jsonl"
    with Journal(path, CONFIG) as journal:
        assert journal.done == {}
        journal.add("a", {"x": (1, 2), "nan": float("nan")})
        first = dict(journal.done)
    with Journal(path, dict(reversed(CONFIG.items()))) as journal:
        assert journal.done == first == {"a": {"x": [1, 2], "nan": None}}
        journal.add("b", {"y": "ü\n"})
        with pytest.raises(ValueError, match="'a' is already in"):
            journal.add("a", {})
    with Journal(path, CONFIG) as journal:
        assert list(journal.done) == ["a", "b"]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_line_is_dropped(tmp_path, cut):
    path = tmp_path / "j"
    with Journal(path, CONFIG) as journal:
        journal.add("a", {"x": 1})
        whole = path.read_bytes()
        journal.add("b", {"text": "something longer"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - cut])
    with Journal(path, CONFIG) as journal:
        assert list(journal.done) == ["a"]
        assert path.read_bytes() == whole
        journal.add("b", {})
    assert len(path.read_bytes().splitlines()) == 3


def test_a_torn_header_is_a_new_file(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(b'{"config": {"da')
    with Journal(path, CONFIG) as journal:
        journal.add("a", {})
    with Journal(path, CONFIG) as journal:
        assert list(journal.done) == ["a"]


def test_other_settings_are_refused_and_named(tmp_path):
    with Journal(tmp_path / "j", CONFIG):
        pass
    with pytest.raises(ValueError, match=r"limit was 3, is 4; seed was None, is 1\); use the same") as caught:
        Journal(tmp_path / "j", CONFIG | {"limit": 4, "seed": 1})
    assert "data was" not in str(caught.value)
    with Journal(tmp_path / "j", CONFIG):
        pass


DAMAGES = [
    b"rubbish\n",
    b"[]\n",
    b'{"key": "x"}\n',
    b'{"key": ["x"], "record": {}}\n',
    b'{"key": "x", "record": 3}\n',
    b"\xff\n",
    b"[" * 99_999 + b"\n",
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage[:20])
def test_damage_elsewhere_is_an_error(tmp_path, damage):
    path = tmp_path / "j"
    with Journal(path, CONFIG) as journal:
        journal.add("a", {})
    path.write_bytes(path.read_bytes() + damage + b'{"key": "b", "record": {}}\n')
    with pytest.raises(ValueError, match=r"line 3 of .* is damaged"):
        Journal(path, CONFIG)


@pytest.mark.parametrize("header", [b"3", b"{}", b'{"config": 3}', b'{"config": []}'])
def test_a_damaged_header_is_an_error(tmp_path, header):
    (tmp_path / "j").write_bytes(header + b"\n")
    with pytest.raises(ValueError, match=r"line 1 of .* is damaged: .*; remove the file to start anew"):
        Journal(tmp_path / "j", CONFIG)


def test_records_are_checked_when_they_are_read(tmp_path):
    def check(key, record):
        if record != {"x": 1}:
            raise ValueError("x is not 1")

    with Journal(tmp_path / "j", CONFIG, check) as journal:
        journal.add("a", {"x": 1})
    with Journal(tmp_path / "j", CONFIG, check) as journal:
        assert journal.done == {"a": {"x": 1}}
        journal.add("b", {"x": 2})
    with pytest.raises(ValueError, match=r"line 3 of .* is damaged: x is not 1"):
        Journal(tmp_path / "j", CONFIG, check)


def test_two_writers_at_once(tmp_path):
    with Journal(tmp_path / "j", CONFIG), pytest.raises(OSError, match="in use by another process"):
        Journal(tmp_path / "j", CONFIG)
    Journal(tmp_path / "j", CONFIG).close()


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "j"
    with Journal(path, CONFIG) as journal:
        journal.add("a", {})
        before, real = path.read_bytes(), journal._file

        class Full:
            def write(self, data):
                real.write(data[:4])
                raise OSError(28, "No space left on device")

            def __getattr__(self, name):
                return getattr(real, name)

        journal._file = Full()
        with pytest.raises(OSError, match="No space left"):
            journal.add("b", {})
        journal._file = real
        assert path.read_bytes() == before
        assert "b" not in journal.done


def test_a_killed_process_loses_nothing(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from eval.journal import Journal\n"
        f"journal = Journal(Path({str(tmp_path / 'j')!r}), {CONFIG!r})\n"
        "journal.add('a', {'x': 1}); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
    with Journal(tmp_path / "j", CONFIG) as journal:
        assert journal.done == {"a": {"x": 1}}
