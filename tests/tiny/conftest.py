"""Training runs of the tests, at a speed that any CPU has."""

import pytest
import torch
from torch.optim import _muon

ORTHOGONALISED = _muon._zeropower_via_newtonschulz


def in_float32(*arguments: object) -> torch.Tensor:
    """torch's Muon computes in bfloat16, whose products take minutes on a CPU that has none in hardware."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
        return ORTHOGONALISED(*arguments)


@pytest.fixture(autouse=True)
def quick_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", in_float32)
