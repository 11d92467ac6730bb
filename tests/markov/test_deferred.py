"""Checks that are put off: none is lost, and the host waits for no device."""

import pytest
import torch

from tokenrank_guidance.markov import (
    DIRECT_TOKENS,
    AttentionTransition,
    DenseTransition,
    deferred,
    deferred_checks,
    multi_bounce,
    require,
    tokenrank,
)
from tokenrank_guidance.markov.spectrum import SQUARING_TOKENS

from .chains import random_attention
from .test_attention import queries_and_keys


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Put off what is on the CPU, too."""
    monkeypatch.setattr(deferred, "defers", lambda device: deferred._deferred() is not None)


def on_meta(*shape):
    """Queries and keys without values: whatever the host would read of them raises."""
    return tuple(side.to("meta") for side in queries_and_keys(*shape, dtype=torch.float32))


@pytest.mark.parametrize("masked", [False, True])
def test_no_value_is_read_from_the_map_to_the_ranks(masked, monkeypatch):
    for table in (DIRECT_TOKENS, SQUARING_TOKENS):
        monkeypatch.setitem(table, "meta", 64)
    mask = torch.ones(9, 9, dtype=torch.bool, device="meta") if masked else None
    q, k = on_meta(2, 3, 9, 4)
    with deferred_checks() as checks:
        rank = tokenrank(AttentionTransition(q, k, 0.5, mask))
        dense = tokenrank(DenseTransition(torch.empty(2, 3, 9, 9, device="meta")), head_weights="lambda2")
    assert checks and rank.shape == dense.shape == (2, 9)
    with pytest.raises(RuntimeError, match="on meta tensors"):
        tokenrank(AttentionTransition(q, k, 0.5, mask))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (
            lambda: AttentionTransition(torch.full((3, 2), torch.nan), torch.ones(3, 2), 1.0),
            "q and k: .* nan",
        ),
        (lambda: DenseTransition(torch.eye(3) * 0.5), "rows sum to"),
        (lambda: DenseTransition(-torch.eye(3)), "entries in"),
        (lambda: tokenrank(torch.eye(3), personalization=torch.zeros(3)), "personalization: all zero"),
        (lambda: multi_bounce(torch.eye(3), -torch.ones(3)), "start: values in"),
        (
            lambda: AttentionTransition(
                torch.ones(3, 2), torch.ones(3, 2), 1.0, torch.zeros(3, 3, dtype=torch.bool)
            ),
            "mask: row",
        ),
    ],
)
def test_the_error_is_the_one_that_would_have_been_raised(work, message, as_on_a_gpu):
    with pytest.raises(ValueError, match=message):
        work()
    with deferred_checks() as checks:
        work()
    with pytest.raises(ValueError, match=message):
        checks.settle()


def test_what_holds_settles_and_the_first_that_fails_is_raised(as_on_a_gpu):
    with deferred_checks() as checks:
        tokenrank(random_attention(2, 5))
    checks.fetch()
    checks.settle()
    with deferred_checks() as checks:
        require(torch.tensor(True), lambda: ValueError("holds"))
        require(torch.tensor(False), lambda: ValueError("first"))
        require(torch.tensor(False), lambda: ValueError("second"))
    with pytest.raises(ValueError, match="first"):
        checks.settle()


def test_nothing_is_put_off_on_a_cpu_or_outside_the_block():
    with deferred_checks() as checks, pytest.raises(ValueError, match="rows sum to"):
        DenseTransition(torch.eye(3) * 0.5)
    assert not checks
    checks.settle()
    with pytest.raises(ValueError, match="rows sum to"):
        DenseTransition(torch.eye(3) * 0.5)


def test_blocks_nest(as_on_a_gpu):
    with deferred_checks() as outer:
        with deferred_checks() as inner:
            DenseTransition(torch.eye(3) * 0.5)
        DenseTransition(torch.eye(3))
    outer.settle()
    with pytest.raises(ValueError, match="rows sum to"):
        inner.settle()
