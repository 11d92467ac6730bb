"""Attention times its gradient, against autograd through the maps themselves."""

import pytest
import torch

from tests.markov.test_memory import peak_mib
from tokenrank_guidance.markov import AttentionGradient, GradientTransition, logits, tokenrank

from .contract import OperatorContract


def layer(g, batch=2, heads=3, n=7, dim=4, dtype=torch.float64):
    return [torch.randn(batch, heads, n, dim, generator=g, dtype=dtype) for _ in range(3)]


def built(layers, scale=0.5):
    """Σ_l mean_h (∇A ⊙ A)⁺ by autograd, the maps being leaves and y a number; and the layers' gradients."""
    total, seen, y = 0, [], 0
    for place, (q, k, v) in enumerate(layers):
        maps = (scale * q @ k.mT).softmax(-1).requires_grad_()
        out = maps @ v
        y = y + (out * (1 + place)).sin().sum()
        seen.append((maps, out))
    gradients = torch.autograd.grad(y, [one for pair in seen for one in pair])
    for (maps, _), own in zip(seen, gradients[::2], strict=True):
        total = total + (own * maps).clamp_min(0).mean(1).detach()
    sides = zip(layers, gradients[1::2], strict=True)
    return total, [AttentionGradient(q, k, v, out, scale) for (q, k, v), out in sides]


class TestGradientTransition(OperatorContract):
    def make(self):
        g = torch.Generator().manual_seed(0)
        weights, layers = built([layer(g, heads=16), layer(g, heads=16)])
        return GradientTransition(layers), weights / weights.sum(-1, keepdim=True)


class TestGradientTransitionInManyChunks(TestGradientTransition):
    tolerance = 3e-6

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(logits, "CPU_CHUNK_BYTES", 2 * 7 * 4)

    def make(self):
        g = torch.Generator().manual_seed(1)
        weights, layers = built([layer(g, heads=16, dtype=torch.float32)])
        return GradientTransition(layers), (weights / weights.sum(-1, keepdim=True)).double()


def test_several_heads_and_images_in_a_chunk(monkeypatch):
    """A chunk of four chains ends in the middle of an image's three heads."""
    monkeypatch.setattr(logits, "CPU_CHUNK_BYTES", 4 * 7 * 7 * 8)
    g = torch.Generator().manual_seed(4)
    weights, layers = built([layer(g)])
    torch.testing.assert_close(
        GradientTransition(layers).to_dense(), weights / weights.sum(-1, keepdim=True), atol=1e-12, rtol=0
    )


def test_chefers_rollout_is_the_row_of_the_product():
    g = torch.Generator().manual_seed(2)
    sides = [layer(g), layer(g), layer(g)]
    _, layers = built(sides)
    product = torch.eye(7, dtype=torch.float64).expand(2, 7, 7)
    for one in layers:
        maps = (0.5 * one.q @ one.k.mT).softmax(-1)
        product = product + (maps * (one.output @ one.v.mT)).clamp_min(0).mean(1) @ product
    start = torch.eye(7, dtype=torch.float64)[3]
    torch.testing.assert_close(GradientTransition(layers).relevance(start), product[:, 3], atol=1e-12, rtol=0)


def test_a_row_without_weight_goes_anywhere():
    g = torch.Generator().manual_seed(3)
    _, (one,) = built([layer(g)])
    one.output[:, :, 2] = 0
    chain = GradientTransition([one])
    torch.testing.assert_close(chain.to_dense()[:, 2], torch.full((2, 7), 1 / 7, dtype=torch.float64))
    assert torch.isfinite(tokenrank(chain)).all()


def test_what_does_not_fit_is_refused():
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"got shapes .*\(1, 2, 3, 5\)"):
        AttentionGradient(q, q, q, torch.zeros(1, 2, 3, 5), 1.0)
    with pytest.raises(ValueError, match="gradient is not finite"):
        AttentionGradient(q, q, q, q + torch.nan, 1.0)
    with pytest.raises(ValueError, match=r"got \(images, tokens\) of none"):
        GradientTransition([])


@pytest.mark.extended
def test_4096_tokens_of_8_heads_whose_maps_and_gradients_would_be_1_gib():
    peak = peak_mib(
        "from tokenrank_guidance.markov import AttentionGradient, GradientTransition",
        "side = [inputs(1, 8, 4096, 32)[0] for _ in range(4)]\n"
        "small = [one[:, :, :64] for one in side]\n"
        "GradientTransition([AttentionGradient(*small, 0.1)]).apply(torch.ones(64))",
        "GradientTransition([AttentionGradient(*side, 0.1)]).apply(torch.ones(4096))",
    )
    assert peak <= 64
