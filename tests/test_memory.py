"""What is free, and what does not fit."""

import pytest

from tokenrank_guidance import memory
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.memory import GIB


def test_the_estimate_is_what_is_free_and_what_is_held(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3 * GIB)
    memory.check_memory(3 * GIB, "cpu", "two images")
    with pytest.raises(
        UnsupportedError, match=r"two images need at least 4\.0 GiB, and 3\.0 GiB are free on cpu"
    ):
        memory.check_memory(4 * GIB, "cpu", "two images")
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    memory.check_memory(2**80, "npu", "anything")


def test_free_memory_is_what_the_system_says():
    with open("/proc/meminfo") as lines:
        said = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    free = memory.free_bytes("cpu")
    assert free is not None
    assert 0 < free <= said["MemTotal"]
