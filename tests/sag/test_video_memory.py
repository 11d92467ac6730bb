"""Ranking a video holds nothing of the size of its map, however many tokens it has."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sag.scorers import TokenRankScorer
from tests.benchmarks.memory import peak_extra_mib
from tests.benchmarks.video_rank import memory
from tokenrank_guidance.capture import AttentionRecord


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


def largest(frames: int, stride: int) -> int:
    """Of a video of so many frames of 8×8 tokens."""
    tokens = frames * 64
    q, k = torch.randn(2, 1, 2, tokens, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Largest() as made:
        TokenRankScorer(stride=stride)(AttentionRecord(q, k, 0.5, grid=(frames, 8, 8)))
    return made.numbers


@pytest.mark.parametrize("stride", [1, 2])
def test_memory_grows_with_the_tokens_and_not_with_their_square(stride, monkeypatch):
    """In chunks of 64 KiB, and with no room to hold a matrix."""
    monkeypatch.setattr("tokenrank_guidance.markov.attention.held_bytes", lambda device: 0)
    monkeypatch.setattr("tokenrank_guidance.markov.logits.chunk_bytes", lambda device: 2**16)
    monkeypatch.setattr("sag.strided.CHUNK_BYTES", 2**16)
    few, many = largest(4, stride), largest(16, stride)
    assert few < 256**2
    assert many <= 4 * few


def test_a_matrix_would_be_seen():
    q, k = torch.randn(2, 1, 2, 512, 4)
    with Largest() as made:
        AttentionRecord(q, k, 0.5).maps()
    assert made.numbers == 2 * 512**2


@pytest.mark.slow
def test_wans_480p_takes_a_hundredth_of_its_matrix():
    if peak_extra_mib(lambda: None, torch.device("cpu")) is None:
        pytest.skip("this system does not tell a process's peak memory")
    found = memory((21, 30, 52), steps=3)
    assert found["tokens"] == 32_760
    assert found["peak_mib"] < found["matrix_mib"] / 100
