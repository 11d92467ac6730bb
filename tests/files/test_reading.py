"""Files that are opened, and those that are not."""

import os
import threading

import pytest

from tokenrank_guidance.files.reading import open_regular, read_file, read_json


def test_nothing_but_regular_files_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "or a device")):
        with pytest.raises(ValueError, match=kind):
            read_file(path)
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="device"):
        read_file(tmp_path / "link")


def test_a_file_that_becomes_a_pipe_in_between_does_not_wait(tmp_path, monkeypatch):
    path, real = tmp_path / "file", os.stat

    def swapped(name, *args, **kwargs):
        status = real(name, *args, **kwargs)
        path.unlink()
        os.mkfifo(path)
        return status

    path.write_bytes(b"x")
    refused = []

    def read():
        with pytest.raises(ValueError, match="a pipe"):
            open_regular(path)
        refused.append(True)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", swapped)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(10)
    assert refused


def test_the_largest_file(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setenv("TOKENRANK_MOST_BYTES", "5")
    assert read_file(tmp_path / "x") == b"12345"
    monkeypatch.setenv("TOKENRANK_MOST_BYTES", "4")
    with pytest.raises(ValueError, match="set TOKENRANK_MOST_BYTES to raise it"):
        read_file(tmp_path / "x")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000], ids=len)
def test_what_is_no_json_is_one_error_with_its_name(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.json is not JSON: "):
        read_json(tmp_path / "x.json")
