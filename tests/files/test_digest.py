"""Contents and weights have one digest each."""

import hashlib

import torch
from torch import nn

from tokenrank_guidance.files.digest import (
    BLOCK,
    bytes_digest,
    file_digest,
    joint_digest,
    tensors_digest,
    weights_digest,
)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def test_digest_is_of_the_weights_their_names_and_their_precision():
    same = [weights_digest(linear()) for _ in range(2)]
    renamed = nn.Sequential(linear())
    others = [linear(1), linear().double(), linear().bfloat16(), renamed]
    digests = {same[0], *(weights_digest(model) for model in others)}
    assert same[0] == same[1] and len(same[0]) == 64
    assert len(digests) == 5


def test_digest_of_numbers_without_an_axis():
    first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    second.get_buffer("num_batches_tracked").add_(1)
    assert weights_digest(first) != weights_digest(second)


def test_digest_of_contents_is_sha_256_however_large(tmp_path):
    data = bytes(range(256)) * (BLOCK // 128)
    (tmp_path / "x").write_bytes(data)
    assert file_digest(tmp_path / "x") == bytes_digest(data) == hashlib.sha256(data).hexdigest()


def test_joint_digest_depends_on_order_and_kind():
    parts = [("a", 1), (1, "a"), ("a", "1"), ("a1",)]
    assert len({joint_digest(part) for part in parts}) == len(parts)


def test_what_stands_before_tensors_counts():
    named = [("x", torch.zeros(2))]
    assert tensors_digest(named) != tensors_digest(named, b"processor")
