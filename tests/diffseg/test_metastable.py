"""How many segments the chain has by itself."""

import pytest
import torch

from diffseg import Settings, segment_chain
from diffseg.metastable import count_regions, leading_eigenvalues, merge_to
from tests.diffseg.helpers import blocks


@pytest.mark.parametrize("sizes", [[60], [30, 30], [12, 20, 28], [10] * 6, [8, 16, 24, 32, 8, 8, 4]])
@pytest.mark.parametrize("leak", [0.0, 0.02, 0.3])
def test_nearly_uncoupled_blocks_are_counted(sizes, leak):
    chain = blocks(sizes, leak)
    assert count_regions(chain) == len(sizes)
    assert count_regions(chain.float()) == len(sizes)


def test_a_chain_that_forgets_in_a_step_is_one_region():
    assert count_regions(torch.full((50, 50), 1 / 50)) == 1
    assert count_regions(blocks([25, 25], leak=0.7)) == 1
    assert count_regions(torch.ones(1, 1)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_eigenvalues_that_count_are_lapacks(seed):
    chain = blocks([9, 14, 7, 30], leak=0.1 * (seed + 1), seed=seed, noise=1.0)
    found = leading_eigenvalues(chain, 8)
    exact = torch.linalg.eigvals(chain).real.sort(descending=True).values
    torch.testing.assert_close(found[:4], exact[:4], rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_auto_finds_k_segments_in_k_blocks(count):
    chain = blocks([48 // count] * count + ([48 % count] if 48 % count else []))
    k = count + bool(48 % count)
    for leak in (0.01, 0.1):
        chain = blocks([48 // count] * count + ([48 % count] if 48 % count else []), leak)
        found = segment_chain(chain, (6, 8), (6, 8), Settings(num_anchors=40))
        assert len(found) == k
        assert len(set(found.thresholds)) == 1 and len(found.thresholds) == 3


def test_found_threshold_gives_the_same_segments_when_passed():
    chain = blocks([16, 10, 22], leak=0.05, noise=1.0)
    found = segment_chain(chain, (6, 8), (12, 16), Settings())
    again = segment_chain(chain, (6, 8), (12, 16), Settings(kl_threshold=found.thresholds))
    assert torch.equal(found.labels, again.labels)
    assert torch.equal(found.masks, again.masks)


def test_no_more_segments_than_asked_for():
    chain = blocks([12, 12, 12, 12], leak=0.05, noise=1.5)
    anchors = torch.arange(0, 48, 3)
    counts = [len(merge_to(chain, anchors, 3, most).masks) for most in (1, 2, 4, 16)]
    assert all(count <= most for count, most in zip(counts, (1, 2, 4, 16), strict=True))
    assert counts[2] == 4
