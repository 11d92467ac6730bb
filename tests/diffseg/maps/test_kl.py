"""Symmetric divergences by two matrix products."""

import pytest
import torch
from scipy.stats import entropy

from diffseg.maps import kl
from diffseg.maps.kl import FLOOR, symmetric_kl


def maps(count, tokens, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, tokens, generator=generator, dtype=dtype).mul(2).softmax(-1)


@pytest.mark.parametrize("block", [1, 100, 10**6])
def test_equals_scipy(monkeypatch, block):
    monkeypatch.setattr(kl, "BLOCK", block)
    a, m = maps(5, 30), maps(17, 30, seed=1)
    expected = [[(entropy(x, y) + entropy(y, x)) / 2 for y in m.numpy()] for x in a.numpy()]
    torch.testing.assert_close(symmetric_kl(a, m), torch.tensor(expected, dtype=torch.float64))


def test_first_axis_is_the_anchors_and_swapping_transposes():
    a, m = maps(3, 8), maps(6, 8, seed=1)
    assert symmetric_kl(a, m).shape == (3, 6)
    torch.testing.assert_close(symmetric_kl(a, m), symmetric_kl(m, a).T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_zeros_are_floored_and_nothing_is_negative(dtype):
    m = torch.eye(6, dtype=dtype)
    m[5] = torch.tensor([0.5, 0.5, 0, 0, 0, 0])
    found = symmetric_kl(m, m)
    assert torch.isfinite(found).all() and (found >= 0).all()
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (found.diagonal() < 1e-4).all()
    assert found[0, 1].item() == pytest.approx(
        -torch.tensor(FLOOR, dtype=torch.float64).log().item(), rel=1e-5
    )


def test_float32_is_close_enough_for_a_threshold():
    a, m = maps(4, 4096), maps(50, 4096, seed=1)
    torch.testing.assert_close(
        symmetric_kl(a.float(), m.float()).double(), symmetric_kl(a, m), rtol=1e-4, atol=1e-4
    )


def test_malformed_maps():
    m = maps(3, 4)
    with pytest.raises(ValueError, match=r"maps: entries in \[nan"):
        symmetric_kl(m, m * torch.nan)
    with pytest.raises(ValueError, match=r"anchors: entries in \[-"):
        symmetric_kl(-m, m)
    with pytest.raises(ValueError, match="anchors over 4 tokens, maps over 3"):
        symmetric_kl(m, m[:, :3])
    with pytest.raises(ValueError, match=r"anchors: shape \(0, 4\)"):
        symmetric_kl(m[:0], m)
