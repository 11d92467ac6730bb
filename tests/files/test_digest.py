"""Which weights results came from."""

import torch
from torch import nn

from tokenrank_guidance.files.digest import weights_digest


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
