"""One chain from maps of several resolutions."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseg.maps.aggregate import ResolutionMeans, aggregate, coarse_index, resolution_maps
from tests.diffseg.helpers import record
from tokenrank_guidance.capture import AttentionRecord

GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(st.lists(GRIDS, min_size=1, max_size=3), st.integers(1, 2))
def test_any_grids_give_a_row_stochastic_chain_over_the_finest(grids, batch):
    records = [record(grid, batch=batch, seed=i) for i, grid in enumerate(grids)]
    chain = aggregate(resolution_maps(records, torch.float64))
    n = max(h * w for h, w in grids)
    assert chain.shape == (batch, n, n)
    assert (chain >= 0).all()
    torch.testing.assert_close(chain.sum(-1), torch.ones(batch, n, dtype=torch.float64))


def test_weights_follow_the_side_and_ignore_how_many_layers():
    fine, coarse = record((8, 8)), record((4, 4), seed=1)
    one = aggregate(resolution_maps([fine, coarse], torch.float64))
    many = aggregate(resolution_maps([fine, coarse, coarse, coarse], torch.float64))
    torch.testing.assert_close(one, many)
    alone = aggregate(resolution_maps([fine], torch.float64))
    rest = (one - alone * 8 / 12) / (4 / 12)
    torch.testing.assert_close(rest.sum(-1), torch.ones(1, 64, dtype=torch.float64))


def test_a_coarse_query_stands_for_its_square():
    index = coarse_index((8, 12), (4, 4)).view(8, 12)
    assert torch.equal(index, torch.arange(16).view(4, 4).repeat_interleave(2, 0).repeat_interleave(3, 1))


def test_class_token_text_and_mask_leave_the_image_chain_renormalised():
    whole = torch.randn(1, 2, 15, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 1, 15)
    mask[..., 3] = -2.0
    joint = AttentionRecord(whole, whole, 0.5, mask, grid=(3, 4), image=slice(1, 13), text=slice(13, 15))
    block = joint.maps()[:, :, 1:13, 1:13]
    expected = (block / block.sum(-1, keepdim=True)).mean(1)
    torch.testing.assert_close(aggregate(resolution_maps([joint])), expected)


def test_masks_that_differ_by_head():
    part = record((2, 3), dtype=torch.float32)
    mask = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    masked = replace(part, mask=mask)
    torch.testing.assert_close(resolution_maps([masked])[0].matrix, masked.maps().mean(1))


def test_half_precision_maps_are_made_in_float32():
    part = record((4, 4), dtype=torch.bfloat16)
    assert resolution_maps([part])[0].matrix.dtype == torch.float32


def test_too_many_tokens_are_refused_before_a_map_is_made():
    with pytest.raises(ValueError, match="64×64 = 4096 image tokens, more than max_tokens=4095"):
        ResolutionMeans(max_tokens=4095).add(record((64, 64), heads=1, dtype=torch.float32))


def test_records_that_cannot_be_used():
    part = record((4, 4))
    with pytest.raises(ValueError, match="layer0 has no grid"):
        resolution_maps([replace(part, grid=None)])
    with pytest.raises(ValueError, match="records of 1 and 2 images"):
        resolution_maps([part, record((4, 4), batch=2)])
    with pytest.raises(ValueError, match="no attention record"):
        resolution_maps([])
