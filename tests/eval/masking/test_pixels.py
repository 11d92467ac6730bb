"""What masked pixels become."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from eval.masking.fills import BLUR_SIGMA, FILLS, zeroed
from eval.masking.pixels import Grid, fill_patches
from eval.patches import patch_side
from tests import tiny_vits
from tokenrank_guidance import capture

GRID = Grid((2, 3), (4, 4))


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
    with pytest.raises(ValueError, match="does not hold a grid of 2×3"):
        fill_patches(images(1, 12), images(1, 12), torch.ones(2, 6, dtype=torch.bool), GRID)


def test_refuses_patches_that_the_picture_does_not_hold():
    for size in ((13, 12), (8, 7), (8, 17)):
        with pytest.raises(ValueError, match="does not hold a grid of 2×3 patches of 4×4 pixels"):
            fill_patches(images(*size), images(*size), torch.ones(2, 6, dtype=torch.bool), GRID)


EMBEDDINGS = ("patch_embed", "patch_embedding", "patch_embeddings")


EVEN, UNEVEN = (32, 32), (37, 46)
ONLY_EVEN = ("siglip_classifier", *(name for name in tiny_vits.VITS if name.startswith("timm")))
TAKEN = [(name, size) for name in tiny_vits.VITS for size in (EVEN, UNEVEN) if name != "siglip2"]


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, size in TAKEN if size == EVEN or name not in ONLY_EVEN]
)
def test_masking_a_patch_changes_the_input_of_that_token_alone(name, size):
    """The oracle is the model's own layer that turns pixels into tokens."""
    model = tiny_vits.build(name)
    given = tiny_vits.inputs(name, size, batch=1)
    pixels = given["x" if "x" in given else "pixel_values"]
    with torch.no_grad(), capture(model, "all") as records:
        model(**given)
    shape = next(record.grid for record in records if record.grid is not None)
    grid = Grid(shape, patch_side(model))
    embed = next(m for path, m in model.named_modules() if path.rpartition(".")[2] in EMBEDDINGS)
    for patch in (0, shape[1] - 1, shape[0] * shape[1] - 1):
        masked = torch.zeros(1, shape[0] * shape[1], dtype=torch.bool)
        masked[0, patch] = True
        filled = fill_patches(pixels, zeroed(pixels), masked, grid)
        changed = (_tokens(embed, pixels) != _tokens(embed, filled)).any(0)
        assert changed.nonzero().flatten().tolist() == [patch]


@torch.no_grad()
def _tokens(embed, pixels):
    """(dim, tokens)"""
    out = embed(pixels)
    return out.flatten(2)[0] if out.ndim == 4 and out.shape[-1] != 32 else out.flatten(1, -2)[0].T


def test_a_model_that_does_not_tell_its_patches_is_refused():
    with pytest.raises(ValueError, match="Linear does not tell the side of its patches: got None"):
        patch_side(torch.nn.Linear(2, 2))
