"""Devices that work here, and numbers that a CPU is slow at."""

import pytest
import torch

from tokenrank_guidance import devices


@pytest.mark.parametrize(("ratio", "warns"), [(14, True), (0.5, False)])
def test_slow_numbers_are_warned_of_once(monkeypatch, capsys, ratio, warns):
    devices.warn_of_slow_numbers.cache_clear()
    monkeypatch.setattr(devices, "_seconds", lambda dtype: 1.0 if dtype == torch.float32 else ratio)
    for _ in range(2):
        devices.warn_of_slow_numbers(torch.bfloat16, "cpu")
    devices.warn_of_slow_numbers(torch.float32, "cpu")
    devices.warn_of_slow_numbers(torch.bfloat16, "cuda")
    said = capsys.readouterr().err
    assert said.count("warning: this CPU has no instructions for bfloat16") == warns
    assert ("14 times" in said and "--dtype" in said) == warns
    devices.warn_of_slow_numbers.cache_clear()


def test_a_device_that_does_not_work_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"^device 'abacus' cannot be used: \S"):
        devices.usable_device("abacus")
    assert devices.usable_device("cpu") == "cpu"


@pytest.mark.parametrize(("there", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert devices.usable_device("auto") == chosen
