"""Merging, and from merged maps to pixels."""

import pytest
import torch
import torch.nn.functional as F

from diffseg import Settings, segment_chain
from diffseg.maps import labels
from diffseg.maps.labels import label_map
from diffseg.maps.merge import leaders, merge, merge_proposals
from diffseg.maps.refine import kmeans
from tests.diffseg.helpers import blocks


def test_a_matched_proposal_enters_later_averages():
    # On a line: the second is near both ends, the ends are not near each other.
    maps = torch.tensor(
        [[0.5, 0.3, 0.2], [0.35, 0.35, 0.3], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]], dtype=torch.float64
    )
    merged = merge_proposals(maps, [0.1])
    torch.testing.assert_close(merged[0], (maps[0] + maps[1]) / 2)
    torch.testing.assert_close(merged[1], (maps[1] + maps[2] + maps[3]) / 3)
    assert len(merged) == 2


def test_leaders_in_order():
    near = torch.eye(4, dtype=torch.bool)
    near[0, 2] = near[2, 3] = True
    assert leaders(near).tolist() == [0, 1, 3]


def test_a_huge_threshold_leaves_one_segment_and_a_tiny_one_every_anchor():
    chain = blocks([10, 20, 6])
    anchors = torch.arange(0, 36, 4)
    assert len(merge(chain, anchors, [100.0] * 3)) == 1
    tiny = merge(chain, anchors, [1e-12] * 3)
    torch.testing.assert_close(tiny, chain[anchors])


def test_blocks_become_segments_whatever_the_anchors():
    for name in ("uniform", "tokenrank-grid", "tokenrank-topk", "tokenrank-nms", "tokenrank-sample"):
        settings = Settings(anchors=name, num_anchors=30, kl_threshold=0.5)
        found = segment_chain(blocks([24, 12, 12]), (8, 6), (8, 6), settings)
        labels = found.labels.flatten()
        assert [len(part.unique()) for part in labels.split([24, 12, 12])] == [1, 1, 1], name
        assert len(labels.unique()) == 3, name
        torch.testing.assert_close(found.scores.mean(), torch.tensor(1.0))


@pytest.mark.parametrize("size", [(40, 24), (1, 9), (13, 1), (3, 2), (1, 1), (5, 3)])
def test_labels_are_the_argmax_of_bilinear_maps_however_thin_the_strips(monkeypatch, size):
    masks = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].argmax(0)
    for held in (1, 50, 10**6):
        monkeypatch.setattr(labels, "HELD", held)
        assert torch.equal(label_map(masks, size), expected)


def test_equal_masks_give_the_first_segment():
    assert label_map(torch.ones(3, 2, 2), (7, 5)).sum() == 0


def test_size_without_pixels():
    with pytest.raises(ValueError, match=r"size: got \(0, 4\)"):
        label_map(torch.ones(1, 2, 2), (0, 4))


def test_kmeans_starts_at_the_merged_maps_and_keeps_their_order():
    chain = blocks([10, 20, 6])
    masks = torch.stack([chain[31:].mean(0), chain[0], chain[12]])
    refined = kmeans(chain, masks)
    for mask, part in zip(refined, (chain[30:], chain[:10], chain[10:30]), strict=True):
        torch.testing.assert_close(mask, part.mean(0))


def test_kmeans_of_a_flat_chain_is_quiet():
    chain = torch.full((9, 9), 1 / 9)
    torch.testing.assert_close(kmeans(chain, chain[:3]), chain[:3])
    torch.testing.assert_close(kmeans(chain, chain[:1]), chain[:1])
