"""How many segments the chain has by itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffseg import Settings, segment_chain
from diffseg.maps import metastable
from diffseg.maps.aggregate import aggregate, resolution_maps
from diffseg.maps.kl import symmetric_kl
from diffseg.maps.merge import merge
from diffseg.maps.metastable import LAST, count_regions, leading_eigenvalues, merge_to
from diffseg.passes.denoise import denoiser_pass
from tests.diffseg.helpers import blocks, image, record
from tokenrank_guidance.capture import capture
from tokenrank_guidance.tiny import load_pipeline


def plain_bisection(chain, anchors, merges, regions):
    """Whole maps at every step, and the last candidate first."""
    largest = max(2 * symmetric_kl(chain[anchors], chain).max().item(), 2e-3)
    candidates = [1e-3 * (largest / 1e-3) ** (i / 63) for i in range(64)]
    low, high = 0, 63
    best = merge(chain, anchors, [candidates[high]] * merges)
    while low < high:
        middle = (low + high) // 2
        masks = merge(chain, anchors, [candidates[middle]] * merges)
        if len(masks) <= regions:
            high, best = middle, masks
        else:
            low = middle + 1
    return best, candidates[low]


def compare(chain, anchors, regions, merges=3):
    masks, threshold = plain_bisection(chain, anchors, merges, regions)
    found = merge_to(chain, symmetric_kl(chain[anchors], chain), anchors, merges, regions)
    assert found.threshold == threshold
    assert torch.equal(found.masks, masks)
    return len(masks)


def tiny_flux_chain():
    pipe = load_pipeline("tiny-flux")
    with capture(pipe.transformer, "all") as records:
        denoiser_pass(pipe, image(96, 128), Settings(resolution=128))
    return aggregate(resolution_maps(list(records)))[0]


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
    *_, found = leading_eigenvalues(chain)
    exact = torch.linalg.eigvals(chain).real.sort(descending=True).values
    torch.testing.assert_close(found.values[:4], exact[:4], rtol=0, atol=1e-6)


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
    divergence = symmetric_kl(chain[anchors], chain)
    counts = [len(merge_to(chain, divergence, anchors, 3, most).masks) for most in (1, 2, 4, 16)]
    assert all(count <= most for count, most in zip(counts, (1, 2, 4, 16), strict=True))
    assert counts[2] == 4


@pytest.mark.parametrize("merges", [1, 2, 3])
@pytest.mark.parametrize("regions", [1, 3, 7, 32])
def test_threshold_is_that_of_plain_bisection_on_blocks(regions, merges):
    chain = blocks([13, 20, 7, 31, 29], leak=0.1, noise=1.5)
    compare(chain, torch.arange(0, 100, 3), regions, merges)
    compare(chain.float(), torch.arange(0, 100, 3), regions, merges)


@pytest.mark.parametrize("grid", [(16, 16), (9, 31), (1, 50)])
@pytest.mark.parametrize("seed", range(3))
def test_threshold_is_that_of_plain_bisection_on_random_attention(grid, seed):
    chain = aggregate(resolution_maps([record(grid, seed=seed, dtype=torch.float32)]))[0]
    anchors = torch.arange(0, len(chain), 5)
    counts = [compare(chain, anchors, regions) for regions in (1, 2, 4, 8, 16)]
    assert len(set(counts)) > 2, counts
    shuffled = torch.randperm(len(chain), generator=torch.Generator().manual_seed(seed))
    compare(chain[:, shuffled], anchors, 4)  # neighbouring keys have nothing in common, so the guess is wrong


def test_threshold_is_that_of_plain_bisection_on_real_attention():
    chain = tiny_flux_chain()
    anchors = torch.arange(0, len(chain), 2)
    counts = [compare(chain, anchors, regions) for regions in (1, 5, count_regions(chain))]
    assert len(set(counts)) > 1, counts


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_a_guess_leads_to_the_first_that_fits_in_few_steps(first, guess):
    tried = set()

    def fits(index):
        assert 0 <= index < LAST
        tried.add(index)
        return index >= first

    assert metastable._near(fits, guess) == first
    assert len(tried) <= 3 + 2 * math.log2(1 + abs(first - guess))


@given(st.lists(st.booleans(), min_size=LAST, max_size=LAST), st.integers(0, LAST))
def test_where_more_may_be_left_by_a_larger_threshold_a_crossing_is_found(table, guess):
    found = metastable._near(table.__getitem__, guess)
    assert found == LAST or table[found]
    assert found == 0 or not table[found - 1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [1.0, 3.0, 9.0])
def test_regions_are_as_many_as_lapacks_eigenvalues(seed, sharpness):
    chain = aggregate(resolution_maps([record((14, 18), seed=seed, sharpness=sharpness)]))[0]
    exact = torch.linalg.eigvals(chain).real
    assert (exact - math.exp(-1)).abs().min() > 1e-6
    assert count_regions(chain) == min(32, int((exact > math.exp(-1)).sum()))
    assert count_regions(chain.float()) == count_regions(chain)


def test_regions_of_real_attention_are_as_many_as_lapacks_eigenvalues():
    chain = tiny_flux_chain()
    exact = torch.linalg.eigvals(chain.double()).real
    assert count_regions(chain) == int((exact > math.exp(-1)).sum())


def test_iteration_ends_once_the_count_is_certain(monkeypatch):
    looks = []
    ritz = metastable._ritz
    monkeypatch.setattr(metastable, "_ritz", lambda *q: looks.append(ritz(*q)) or looks[-1])
    count_regions(blocks([40, 40, 40], leak=0.05))
    assert len(looks) == 1 and looks[0].settled
    looks.clear()
    chain = blocks([30, 30], leak=1 - math.exp(-1), noise=0.0)  # whose second eigenvalue is 1/e
    assert count_regions(chain) in (1, 2)
    assert len(looks) == 4 and not looks[-1].settled


def test_residuals_are_of_the_ritz_vectors():
    generator = torch.Generator().manual_seed(0)
    chain = torch.rand(30, 30, generator=generator, dtype=torch.float64).softmax(-1)
    basis = torch.linalg.qr(torch.randn(30, 6, generator=generator, dtype=torch.float64)).Q
    found = metastable._ritz(basis, chain @ basis)
    values, vectors = torch.linalg.eig(basis.T @ chain @ basis)
    ritz = basis.to(vectors) @ vectors
    expected = (chain.to(ritz) @ ritz - ritz * values).norm(dim=0)[values.real.argsort(descending=True)]
    torch.testing.assert_close(found.residuals, expected)
