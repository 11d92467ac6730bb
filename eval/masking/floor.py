"""Rankings that look at no attention: the floor that every other one must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord


def image_seed(seed: int, image: int) -> int:
    """The seed of image number `image` in a run with `seed`: 32 bits, since torch drops the rest."""
    return int(np.random.SeedSequence((seed, image)).generate_state(1)[0])


def random(records: Sequence[AttentionRecord], seeds: Sequence[int]) -> Float[Tensor, "batch patches"]:
    """Uniform draws brought to mean 1, those of each image from its own seed and nothing else."""
    patches, device = _patches(records[-1]), records[-1].q.device
    draws = torch.stack(
        [torch.rand(patches, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    return (draws / draws.mean(-1, keepdim=True)).to(device)


def centre(records: Sequence[AttentionRecord], seeds: Sequence[int]) -> Float[Tensor, "batch patches"]:
    """Nearness to the middle of the grid, `1 + d_max - d` in patches, brought to mean 1."""
    record = records[-1]
    if record.plane is None:
        raise ValueError(f"{record.module or 'the model'} does not know its grid of patches")
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in record.plane)
    distance = (rows[:, None] ** 2 + columns**2).sqrt().flatten()
    nearness = 1 + distance.max() - distance
    return (nearness / nearness.mean()).expand(len(seeds), -1).to(record.q.device)


def _patches(record: AttentionRecord) -> int:
    return len(range(*record.image.indices(record.tokens)))
