"""From heat maps to masks and labels."""

import pytest
import torch

from diffseg.zero_shot import Options, WordSegmentation, ZeroShot


def test_masks_and_labels():
    left, right = torch.zeros(2, 4), torch.zeros(2, 4)
    left[:, 0], right[:, 3] = 0.5, 100.0  # a louder concept wins no more pixels
    found = WordSegmentation(("left", "right"), torch.stack([left, right])[None], (2, 4))
    assert torch.equal(found.masks, torch.stack([left, right]) > 0)
    assert found.labels.tolist() == [[0, -1, -1, 1]] * 2


def test_maps_are_upsampled_with_half_pixel_centres():
    heat = torch.tensor([[[0.0, 4.0]]])
    found = WordSegmentation(("a",), torch.stack([heat, 3 * heat]), (1, 4))
    assert found.heat_maps.tolist() == [[[0.0, 2.0, 6.0, 8.0]]]
    assert found.masks.tolist() == [[[False, False, True, True]]]


def test_a_flat_map_is_nowhere():
    found = WordSegmentation(("a",), torch.ones(1, 1, 3, 3), (6, 6))
    assert not found.masks.any() and (found.labels == -1).all()


def test_former_names_go_on_working():
    assert ZeroShot is WordSegmentation
    with pytest.warns(DeprecationWarning, match='layers="default" is now called "auto"'):
        assert Options(layers="default").layers == "auto"
