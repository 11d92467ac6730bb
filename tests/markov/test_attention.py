"""Chains from queries and keys against the softmax of their products."""

import math

import pytest
import torch

from tokenrank_guidance.markov import (
    HELD_BYTES,
    AttentionTransition,
    DenseTransition,
    MinimalResidual,
    MixtureTransition,
    logits,
    second_eigenvalue,
    stationary_distribution,
)

from .chains import random_weights
from .contract import OperatorContract


def queries_and_keys(*shape, dtype=torch.float64, seed=0, size=1.0):
    g = torch.Generator().manual_seed(seed)
    q, k = (size * torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2))
    return q.to(dtype), k.to(dtype)


def softmax(q, k, scale, mask=None):
    """The chain by its definition, in float64."""
    scores = scale * q.double() @ k.double().mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.double()
    return scores.softmax(-1)


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """Three rows of seven numbers, so that passes take several chunks and the last one is shorter."""
    monkeypatch.setattr(logits, "CPU_CHUNK_BYTES", 3 * 7 * 8)


class AttentionContract(OperatorContract):
    """Both ways to compute: from Q and K each time, and from matrices that fit."""

    memory = 0

    def attention(self, q, k, scale, mask=None):
        return AttentionTransition(q, k, scale, mask, memory=self.memory), softmax(q, k, scale, mask)


class TestAttention(AttentionContract):
    def make(self):
        return self.attention(*queries_and_keys(2, 3, 7, 4), 0.5)


class TestAttentionSingle(AttentionContract):
    def make(self):
        return self.attention(*queries_and_keys(5, 4, seed=1), 1.0)


class TestAttentionOfManySmallChains(AttentionContract):
    """Several chains to a chunk."""

    @pytest.fixture(autouse=True)
    def one_chunk_is_two_chains(self, monkeypatch, several_chunks):
        monkeypatch.setattr(logits, "CPU_CHUNK_BYTES", 2 * 36 * 8)

    def make(self):
        return self.attention(*queries_and_keys(2, 3, 6, 4, seed=2), 0.5)


class TestAttentionFloat32(AttentionContract):
    tolerance = 3e-6

    def make(self):
        return self.attention(*queries_and_keys(4, 7, 8, dtype=torch.float32), 0.3)


class TestAttentionBoolMask(AttentionContract):
    def make(self):
        mask = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(0)) > 0.4
        mask |= torch.eye(7, dtype=torch.bool)
        mask[..., 3] = True
        return self.attention(*queries_and_keys(2, 3, 7, 4), 0.5, mask)


class TestAttentionAddedMask(AttentionContract):
    def make(self):
        mask = torch.linspace(-3, 3, 7).expand(3, 1, 7).clone()
        return self.attention(*queries_and_keys(2, 3, 7, 4), 0.5, mask)


class TestHeld(TestAttention):
    memory = 10**6


class TestHeldSingle(TestAttentionSingle):
    memory = 10**6


class TestHeldFloat32(TestAttentionFloat32):
    memory = 10**6


class TestHeldBoolMask(TestAttentionBoolMask):
    memory = 10**6


def relative(actual, expected):
    return ((actual.double() - expected).abs().sum(-1) / expected.abs().sum(-1)).max()


@pytest.mark.parametrize("memory", [0, HELD_BYTES])
@pytest.mark.parametrize("largest", [1.0, 80.0, 1e4])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_saturated_scores(dtype, bound, largest, memory):
    q, k = queries_and_keys(2, 64, 16, dtype=dtype)
    scale = float(largest / (q.double() @ k.double().mT).abs().max())
    operator, matrix = AttentionTransition(q, k, scale, memory=memory), softmax(q, k, scale)
    for x in (random_weights(64), torch.randn(64, generator=torch.Generator().manual_seed(2))):
        assert relative(operator.apply(x), x.double() @ matrix) <= bound
        assert relative(operator.apply_transpose(x), matrix @ x.double()) <= bound
    assert relative(operator.to_dense(), matrix) <= bound


@pytest.mark.parametrize("memory", [0, HELD_BYTES])
def test_scores_that_share_a_large_offset(memory):
    """A log-sum-exp of 1e4 in float32 would be off by a thousandth."""
    q, k = queries_and_keys(32, 8, dtype=torch.float32)
    q[:, 0], k[:, 0] = 100, 100
    operator = AttentionTransition(q, k, 1.0, memory=memory)
    assert relative(operator.to_dense(), softmax(q, k, 1.0)) <= 1e-5


@pytest.mark.parametrize("memory", [0, HELD_BYTES])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, memory):
    q, k = queries_and_keys(2, 24, 8, dtype=dtype)
    operator = AttentionTransition(q, k, 0.4, memory=memory)
    assert operator.dtype == torch.float32
    x = random_weights(24)
    assert relative(operator.apply(x), x @ softmax(q, k, 0.4)) <= 1e-6


def test_one_token():
    q, k = queries_and_keys(3, 1, 4)
    operator = AttentionTransition(q, k, 1.0)
    ones = torch.ones(3, 1, dtype=torch.float64)
    assert torch.equal(operator.to_dense(), ones.unsqueeze(-1))
    assert torch.equal(stationary_distribution(operator).value, ones)
    assert torch.equal(second_eigenvalue(operator), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("memory", [0, HELD_BYTES])
def test_one_repeated_token_gives_the_uniform_chain(memory):
    q, k = (side[:1].expand(9, 4) for side in queries_and_keys(9, 4))
    operator = AttentionTransition(q, k, 1.0, memory=memory)
    torch.testing.assert_close(operator.to_dense(), torch.full((9, 9), 1 / 9, dtype=torch.float64))
    assert stationary_distribution(operator, solver=MinimalResidual()).steps == 1


def test_a_negative_scale():
    q, k = queries_and_keys(6, 4)
    torch.testing.assert_close(AttentionTransition(q, k, -2.0).to_dense(), softmax(q, k, -2.0))


def test_a_mask_of_the_lowest_number_weighs_nothing_and_masks_no_row():
    q, k = queries_and_keys(6, 4, dtype=torch.float32)
    mask = torch.zeros(6, 6)
    mask[:, 2] = torch.finfo(torch.float32).min
    mask[3] = torch.finfo(torch.float32).min
    expected = (0.5 * q @ k.mT + mask).softmax(-1)
    torch.testing.assert_close(AttentionTransition(q, k, 0.5, mask).to_dense(), expected)


def test_the_size_rule():
    """Matrices are held as long as they fit in the memory given, and it may be given."""
    q, k = queries_and_keys(3, 10, 4, dtype=torch.float32)
    fits = 3 * 10 * 10 * 4
    assert AttentionTransition(q, k, 1.0, memory=fits).holds_matrices
    assert not AttentionTransition(q, k, 1.0, memory=fits - 1).holds_matrices
    mixed = AttentionTransition(q, k, 1.0, memory=fits // 3).mix(torch.ones(3))
    assert isinstance(mixed, DenseTransition), "the mixture is a third of the heads"
    mixed = AttentionTransition(q, k, 1.0, memory=fits // 3 - 1).mix(torch.ones(3))
    assert isinstance(mixed, MixtureTransition)
    assert AttentionTransition(*queries_and_keys(8, 2048, 2, dtype=torch.float32), 1.0).holds_matrices
    assert not AttentionTransition(*queries_and_keys(8, 2049, 2, dtype=torch.float32), 1.0).holds_matrices


@pytest.mark.parametrize("before", [True, False])
def test_mixing_from_held_matrices_or_straight_from_q_and_k(before):
    operator = AttentionTransition(*queries_and_keys(2, 3, 7, 4), 0.5)
    dense = operator.to_dense().clone()
    if before:
        operator.apply(torch.ones(7))
    torch.testing.assert_close(operator.mix(torch.ones(3)).to_dense(), dense.mean(1))


def test_one_pass_serves_several_vectors(monkeypatch):
    passes = []
    chunks = logits.Logits.chunks
    monkeypatch.setattr(logits.Logits, "chunks", lambda self: passes.append(1) or chunks(self))
    operator = AttentionTransition(*queries_and_keys(2, 3, 7, 4), 0.5, memory=0)
    operator.apply(random_weights(5, 1, 1, 7))
    assert len(passes) == 1, "row sums and products of five starts for six chains"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.randn(2, 9, 4)}, r"\(2, 6, 4\) and \(2, 9, 4\).*cross-attention is not"),
        ({"k": torch.randn(2, 6, 4).double()}, "dtypes torch.float32 and torch.float64"),
        ({"q": torch.ones(2, 6, 4, dtype=torch.long)}, "dtypes torch.int64"),
        ({"q": torch.randn(4), "k": torch.randn(4)}, "at least one token"),
        ({"q": torch.randn(0, 4), "k": torch.randn(0, 4)}, "at least one token"),
        ({"q": torch.full((2, 6, 4), math.nan)}, "up to nan, expected finite"),
        ({"k": torch.full((2, 6, 4), math.inf)}, "up to inf, expected finite"),
        ({"scale": math.nan}, "up to nan, expected finite"),
        (
            {"mask": torch.ones(6, 5, dtype=torch.bool)},
            r"shape \(6, 5\), expected .* broadcasts to \(2, 6, 6\)",
        ),
        ({"mask": torch.ones(1, 1, 6, 6)}, r"broadcasts to \(2, 6, 6\)"),
        ({"mask": torch.ones(6, 6, dtype=torch.long)}, "mask: torch.int64"),
        (
            {"mask": torch.arange(6)[:, None] != torch.full((6,), 4)},
            r"mask: row \[4\] is masked",
        ),
        ({"mask": torch.where(torch.eye(6) == 1, -math.inf, 0.0).cumsum(0)[None]}, r"row \[0, 5\] is masked"),
        ({"mask": torch.full((6,), math.nan)}, "mask: entries up to nan"),
        ({"mask": torch.full((6,), math.inf)}, "mask: entries up to inf"),
    ],
)
def test_construction_refuses(change, message, unchecked):
    arguments = {"q": torch.randn(2, 6, 4), "k": torch.randn(2, 6, 4), "scale": 0.5, **change}
    with pytest.raises(ValueError, match=message):
        AttentionTransition(**arguments)


def test_a_restriction_that_leaves_a_masked_row_is_refused():
    mask = torch.eye(6, dtype=torch.bool).roll(1, 1)
    operator = AttentionTransition(*queries_and_keys(6, 4), 0.5, mask)
    with pytest.raises(ValueError, match=r"mask: row \[0, 2\] is masked as a whole"):
        operator.restrict(torch.arange(3))


def test_a_restriction_keeps_what_underflows_in_the_whole_chain():
    q = k = torch.tensor([[1.0], [0.5], [60.0]], dtype=torch.float64) * 5
    part = AttentionTransition(q, k, 1.0).restrict(torch.tensor([0, 1]))
    torch.testing.assert_close(part.to_dense(), softmax(q[:2], k[:2], 1.0))
    assert softmax(q, k, 1.0)[0, 0] == 0


def test_several_threads_share_few_large_chunks():
    q, k = queries_and_keys(8, 600, 4, dtype=torch.float32)
    whole = logits.Logits(q, k, 0.5)
    alone = len(list(whole.chunks()))
    torch.set_num_threads(2)
    try:
        together = len(list(whole.chunks()))
        products = AttentionTransition(q, k, 0.5, memory=0).apply(random_weights(600))
    finally:
        torch.set_num_threads(1)
    assert together == 1 < alone
    expected = AttentionTransition(q, k, 0.5, memory=0).apply(random_weights(600))
    torch.testing.assert_close(products, expected)
