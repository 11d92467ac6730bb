"""`preset="reference"` against a plain NumPy loop: identical label maps for every threshold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffseg import REFERENCE, segment_records
from diffseg.maps.aggregate import aggregate, resolution_maps
from diffseg.maps.anchors import AnchorRequest, choose_anchors
from diffseg.passes.denoise import denoiser_pass
from diffseg.settings import make_settings
from tests.diffseg import oracle
from tests.diffseg.helpers import image, record
from tokenrank_guidance.capture import capture
from tokenrank_guidance.tiny import load_pipeline

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.1, (0.05, 0.3, 0.6))


def layers_of(records):
    images = [part.restrict("image") for part in records]
    exact = [replace(part, q=part.q.double(), k=part.k.double()) for part in images]
    return [(part.grid, part.maps()[0].numpy()) for part in exact]


def compare(records, points, size, thresholds=THRESHOLDS):
    """Label maps of ours and of the loop; returns how many segments each threshold left."""
    finest = max((part.grid for part in records), key=lambda grid: grid[0] * grid[1])
    chain = oracle.aggregate(layers_of(records), finest)
    ours = aggregate(resolution_maps(records, torch.float64))[0].numpy()
    np.testing.assert_allclose(ours, chain.reshape(ours.shape), rtol=1e-9, atol=1e-15)
    counts = []
    for threshold in thresholds:
        three = threshold if isinstance(threshold, tuple) else (threshold,) * 3
        expected = oracle.segment(chain, points, three, size)
        settings = make_settings("reference", {"num_anchors": points**2, "kl_threshold": threshold})
        result = segment_records(records, size, settings)[0]
        assert np.array_equal(result.labels.numpy(), expected), threshold
        counts.append(len(result))
    return counts


def test_anchors_of_the_paper():
    request = AnchorRequest(torch.ones(4096) / 4096, (64, 64), 256, torch.Generator())
    anchors = choose_anchors("reference", request)
    assert sorted({(a // 64).item() for a in anchors}) == list(range(1, 62, 4))
    assert [(a // 64, a % 64) for a in anchors.tolist()] == oracle.anchor_grid((64, 64), 16)
    assert torch.equal(anchors, choose_anchors("uniform", request))


def test_defaults_of_the_paper():
    assert (REFERENCE.num_anchors, REFERENCE.thresholds, REFERENCE.timestep) == (256, (1.1, 1.1, 1.1), 300)
    assert (REFERENCE.add_noise, REFERENCE.layers, REFERENCE.refine) == (False, "all", None)


@pytest.mark.parametrize("grid", [(16, 16), (12, 20), (15, 9)])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_attention_of_one_resolution(grid, seed):
    counts = compare([record(grid, seed=seed), record(grid, heads=4, seed=seed + 7)], 6, (40, 56))
    assert len(set(counts)) >= 4, counts


@pytest.mark.parametrize(
    "grids", [[(32, 32), (16, 16), (8, 8), (4, 4)], [(24, 16), (12, 8), (6, 4)], [(17, 23), (9, 12), (5, 6)]]
)
def test_each_resolution_counts_once_and_by_its_side(grids):
    records = [
        record(grid, seed=10 * i + j, sharpness=2) for i, grid in enumerate(grids) for j in range(1 + i % 3)
    ]
    counts = compare(records, 5, (64, 48), (0.02, 0.1, 0.3, 1.1))
    assert len(set(counts)) >= 2, counts


@pytest.mark.extended
def test_64_by_64():
    records = [record((side, side), heads=1, seed=side, sharpness=0.7) for side in (64, 16)]
    counts = compare(records, 3, (512, 512), ((0.1, 0.3, 0.8),))
    assert 1 < counts[0] < 9, counts


@pytest.mark.slow
def test_64_by_64_with_every_resolution_and_all_256_anchors():
    records = [record((side, side), seed=side, sharpness=4) for side in (64, 32, 16, 8)]
    compare(records, 16, (512, 512), (0.1,))


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_real_attention(size):
    pipe = load_pipeline("tiny-flux")
    settings = make_settings("reference", {"resolution": 96})
    with capture(pipe.transformer, "all") as records:
        denoiser_pass(pipe, image(*size), settings)
    counts = compare(list(records), 5, size)
    assert counts[0] > counts[THRESHOLDS.index(1.1)], counts
