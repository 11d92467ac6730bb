"""Walks against attention and through layers, against the matrices written out."""

import numpy as np
import pytest
import torch

from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import (
    DenseTransition,
    attention_from,
    incoming_chain,
    multi_bounce,
    rollout,
)


def chains(layers, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(layers)]


def test_the_incoming_chain_is_the_column_normalised_transpose():
    (p,) = chains(1, 2, 3, 5, 5)
    received = p.numpy()
    expected = np.swapaxes(received / received.sum(-2, keepdims=True), -1, -2)
    np.testing.assert_allclose(incoming_chain(p).to_dense().numpy(), expected, rtol=1e-12)


def test_its_steps_are_incoming_bounces():
    (p,) = chains(1, 2, 6, 6)
    steps = multi_bounce(incoming_chain(p), 1, n=3)
    torch.testing.assert_close(steps, multi_bounce(p, 1, n=3, direction="incoming"))


def test_a_token_that_nobody_attends_to_stays():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    dense = incoming_chain(p).to_dense()
    assert dense[2].tolist() == [0, 0, 1]
    torch.testing.assert_close(
        multi_bounce(DenseTransition(dense), 2, n=2), multi_bounce(p, 2, 2, "incoming")
    )


@pytest.mark.parametrize("staying", [0.0, 0.5, 0.7, 1.0])
def test_rollout_is_the_row_of_the_product(staying):
    layers = chains(3, 2, 4, 5, 5)
    product = np.eye(5)
    for p in layers:  # rollout multiplies later layers from the left
        product = (staying * np.eye(5) + (1 - staying) * p.mean(1).numpy()) @ product
    start = torch.zeros(2, 5, dtype=torch.float64)
    start[:, 3] = 2.0
    np.testing.assert_allclose(rollout(layers, start, staying).numpy(), product[:, 3], rtol=1e-12)
    even = rollout(layers, staying=staying).expand(2, -1)
    np.testing.assert_allclose(even.numpy(), product.mean(-2), rtol=1e-12)


def test_rollout_of_chains_without_heads():
    layers = chains(2, 5, 5)
    expected = (torch.full((5,), 0.2).double() @ (0.5 * (torch.eye(5) + layers[1]))) @ (
        0.5 * (torch.eye(5) + layers[0])
    )
    torch.testing.assert_close(rollout(layers), expected)


@pytest.mark.parametrize(
    ("layers", "options", "error"),
    [
        ([], {}, "layers: got chains of no tokens"),
        ([torch.eye(3), torch.eye(4)], {}, r"layers: got chains of \[3, 4\] tokens, expected as many"),
        ([torch.eye(3)], {"staying": 1.5}, "staying: got 1.5, expected a number in"),
        ([torch.eye(3)], {"start": torch.ones(4)}, r"start: shape \(4,\), expected \(..., 3\)"),
        ([torch.eye(3)], {"start": torch.zeros(3)}, "start: all zero"),
    ],
)
def test_what_rollout_refuses(layers, options, error):
    with pytest.raises(ValueError, match=error):
        rollout(layers, **options)


@pytest.mark.parametrize("masked", [False, True])
def test_one_row_is_that_of_the_whole_map(masked):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 7, 4, generator=generator) for _ in range(2))
    mask = torch.ones(7, 7, dtype=torch.bool).tril() if masked else None
    record = AttentionRecord(q, k, 0.5, mask)
    torch.testing.assert_close(attention_from(record, 5), record.maps().mean(1)[:, 5])
    dense = record.maps()
    torch.testing.assert_close(attention_from(dense, -1), dense.mean(1)[:, -1])
    with pytest.raises(IndexError):
        attention_from(record, 7)
