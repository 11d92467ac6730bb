"""Ranks of every k-th token and one bounce, against the dense matrices."""

import pytest
import torch

from sag.scorers import TokenRankScorer
from sag.strided import every
from tests.markov.chains import damped_stationary
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.capture.linear import LinearAttentionRecord


def record(grid=(5, 7), batch=2, heads=3, text=0, masked=False):
    g = torch.Generator().manual_seed(0)
    count = torch.tensor(grid).prod().item()
    q, k = (1.5 * torch.randn(batch, heads, text + count, 8, generator=g) for _ in range(2))
    mask = torch.rand(batch, 1, text + count, text + count, generator=g) > 0.2 if masked else None
    return AttentionRecord(q, k, 0.35, mask, grid=grid, image=slice(text, None))


def chosen_by_hand(grid, stride):
    *frames, height, width = grid
    first = [min(stride, side) // 2 for side in (height, width)]
    return [
        (frame * height + row) * width + column
        for frame in range(frames[0] if frames else 1)
        for row in range(height)
        for column in range(width)
        if row % stride == first[0] and column % stride == first[1]
    ]


@pytest.mark.parametrize("grid", [(5, 7), (1, 9), (3, 4, 6)])
@pytest.mark.parametrize("stride", [2, 3])
def test_tokens_are_those_of_every_kth_row_and_column(grid, stride):
    assert every(grid, stride, torch.tensor(grid).prod().item()).tolist() == chosen_by_hand(grid, stride)


@pytest.mark.parametrize("options", [{}, {"text": 4}, {"masked": True}, {"grid": (2, 4, 5)}], ids=str)
def test_the_score_is_the_dense_one(options):
    one = record(**options)
    found = TokenRankScorer(stride=2)(one)
    image = one.restrict("image")
    maps, chosen = image.maps().double(), torch.tensor(chosen_by_hand(one.grid, 2))
    block = maps[:, :, chosen][..., chosen]
    part = (block / block.sum(-1, keepdim=True)).mean(1)
    expected = image.tokens * (damped_stationary(part, 0.99)[:, None] @ maps.mean(1)[:, chosen])[:, 0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.mean(-1), torch.ones(2))


def test_linear_attention_is_bounced_by_its_own_map():
    """Sana's: relu(q)·relu(k)ᵀ over row sums, and an even row where a query is rectified away."""
    g = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, 3, 35, 8, generator=g).relu() for _ in range(2))
    q[0, 1, 10] = 0
    one = LinearAttentionRecord(q, k, 1.0, grid=(5, 7))
    weights = q.double() @ k.double().mT
    sums = weights.sum(-1, keepdim=True)
    maps = torch.where(sums > 0, weights / sums.clamp_min(1e-300), 1 / 35)
    chosen = torch.tensor(chosen_by_hand((5, 7), 2))
    block = maps[:, :, chosen][..., chosen]
    part = (block / block.sum(-1, keepdim=True)).mean(1)
    expected = 35 * (damped_stationary(part, 0.99)[:, None] @ maps.mean(1)[:, chosen])[:, 0]
    torch.testing.assert_close(TokenRankScorer(stride=2)(one).double(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.maps().double(), maps, rtol=1e-5, atol=1e-7)


def test_heads_are_weighted_by_the_parts_own_eigenvalues():
    one = record()
    weighted, even = (TokenRankScorer(head_weights=name, stride=2)(one) for name in ("lambda2", "mean"))
    assert (weighted - even).abs().max() > 1e-3
    torch.testing.assert_close(weighted.mean(-1), torch.ones(2))


def test_small_chunks_change_nothing(monkeypatch):
    whole = TokenRankScorer(stride=2)(record())
    monkeypatch.setattr("sag.strided.CHUNK_BYTES", 1)
    torch.testing.assert_close(TokenRankScorer(stride=2)(record()), whole)


def test_what_cannot_be_strided_is_said():
    with pytest.raises(ValueError, match="stride is 0"):
        TokenRankScorer(stride=0)
    with pytest.raises(ValueError, match="1 where the direction is incoming"):
        TokenRankScorer(stride=2, direction="incoming")
    flat = AttentionRecord(torch.ones(1, 1, 6, 2), torch.ones(1, 1, 6, 2), 1.0)
    with pytest.raises(ValueError, match="a stride of 2 needs a grid"):
        TokenRankScorer(stride=2)(flat)
