"""What masked pixels become."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from eval.masking.pixels import BLUR_SIGMA, FILLS, fill_patches

GRID = (2, 3)


def images(height: int = 8, width: int = 12) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FILLS)
def test_replaces_the_masked_patches_alone(name):
    x = images()
    fill = FILLS[name](x)
    masked = torch.tensor([[1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    out = fill_patches(x, fill, masked, GRID)
    for image in range(2):
        for patch in range(6):
            row, column = divmod(patch, 3)
            at = (image, slice(None), slice(row * 4, row * 4 + 4), slice(column * 4, column * 4 + 4))
            assert torch.equal(out[at], (fill if masked[image, patch] else x)[at])


def test_zero_is_the_processors_mean_and_mean_is_the_images_own():
    x = images()
    assert not FILLS["zero"](x).any()
    mean = FILLS["mean"](x)
    assert mean.shape == x.shape
    torch.testing.assert_close(mean[1, 2], x[1, 2].mean().expand(8, 12))


def test_blur_is_scipys_gaussian():
    x = images(40, 64)
    sigma = BLUR_SIGMA * 40
    expected = gaussian_filter(x.double().numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, 8, 8))
    np.testing.assert_allclose(FILLS["blur"](x).numpy(), expected, atol=1e-5)


def test_many_arms_and_pixels_beyond_the_grid():
    x = images(9, 13)
    masked = torch.ones(4, 2, 6, dtype=torch.bool)
    out = fill_patches(x, FILLS["zero"](x), masked, GRID)
    assert out.shape == (4, 2, 3, 9, 13)
    assert not out[..., :8, :12].any() and torch.equal(out[0, :, :, 8], x[:, :, 8])


def test_refuses_an_image_smaller_than_its_grid():
    with pytest.raises(ValueError, match="does not hold a grid"):
        fill_patches(images(1, 12), images(1, 12), torch.ones(2, 6, dtype=torch.bool), GRID)
