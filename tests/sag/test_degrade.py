import pytest
import torch
import torch.nn.functional as F

from sag.degrade import blur_tokens, gaussian_blur, gaussian_kernel


def images(height, width, dtype=torch.float64):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def dense_blur(image, size, sigma):
    """The same by one convolution with the outer product of two kernels, borders mirrored by torch."""
    line = gaussian_kernel(size, sigma, image)
    kernel = torch.outer(line, line).expand(image.shape[1], 1, size, size)
    padded = F.pad(image, [size // 2] * 4, mode="reflect")
    return F.conv2d(padded, kernel, groups=image.shape[1])


@pytest.mark.parametrize(("size", "sigma"), [(1, 1.0), (3, 0.5), (9, 1.0), (9, 3.0)])
@pytest.mark.parametrize(("height", "width"), [(5, 5), (16, 24), (7, 33)])
def test_blur_is_the_convolution_with_mirrored_borders(height, width, size, sigma):
    image = images(height, width)
    torch.testing.assert_close(gaussian_blur(image, size, sigma), dense_blur(image, size, sigma))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (3, 2), (2, 40)])
def test_blur_of_images_smaller_than_the_kernel(height, width):
    image = images(height, width)
    blurred = gaussian_blur(image, 9, 1.0)
    assert blurred.shape == image.shape
    assert blurred.amax() <= image.amax() + 1e-12
    assert blurred.amin() >= image.amin() - 1e-12
    flat = torch.full_like(image, 2.5)
    torch.testing.assert_close(gaussian_blur(flat, 9, 1.0), flat)


def test_small_images_are_mirrored_as_often_as_needed():
    row = torch.tensor([[[[0.0, 1.0, 2.0]]]], dtype=torch.float64)
    line = gaussian_kernel(9, 2.0, row)
    mirrored = torch.tensor([0.0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2], dtype=torch.float64)  # 4 each side of 0 1 2
    expected = torch.stack([(mirrored[i : i + 9] * line).sum() for i in range(3)])
    torch.testing.assert_close(gaussian_blur(row, 9, 2.0)[0, 0, 0], expected)


def test_kernel_is_a_normalised_gaussian():
    kernel = gaussian_kernel(9, 2.0, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(kernel.sum(), torch.ones((), dtype=torch.float64))
    assert torch.equal(kernel, kernel.flip(0))
    torch.testing.assert_close(kernel[4] / kernel[6], torch.tensor(0.5, dtype=torch.float64).exp())


def test_only_masked_tokens_change_and_the_mask_is_resized_by_nearest():
    clean = images(8, 12)
    mask = torch.zeros(2, 2, 3, dtype=torch.bool)
    mask[0, 1, 2] = True
    result = blur_tokens(clean, mask, 9, 1.0)
    expected = clean.clone()
    expected[0, :, 4:8, 8:12] = gaussian_blur(clean, 9, 1.0)[0, :, 4:8, 8:12]
    assert torch.equal(result, expected)


def test_sizes_that_do_not_divide_take_the_nearest_token():
    clean = images(5, 7)
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[:, 0, 0] = True
    changed = (blur_tokens(clean, mask, 9, 1.0) != clean).all(1)[0]
    assert torch.equal(changed, F.interpolate(mask[:1, None].float(), (5, 7))[0, 0].bool())
    assert changed[:3, :4].all()


def test_a_broken_blur_does_not_leak_through_an_empty_mask():
    clean = images(4, 4)
    clean[0, 0, 0, 0] = torch.inf
    assert torch.equal(blur_tokens(clean, torch.zeros(2, 2, 2, dtype=torch.bool), 9, 1.0), clean)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (5, 7), (16, 6)])
def test_weights_blur_in_proportion_pixel_by_pixel(height, width):
    clean = images(height, width)
    weights = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    blurred, expected = gaussian_blur(clean, 9, 1.0), torch.empty_like(clean)
    for b in range(2):
        for y in range(height):
            for x in range(width):
                w = weights[b, y * 2 // height, x * 3 // width]
                expected[b, :, y, x] = w * blurred[b, :, y, x] + (1 - w) * clean[b, :, y, x]
    torch.testing.assert_close(blur_tokens(clean, weights, 9, 1.0), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_0_and_1_are_the_hard_mask_bit_for_bit(dtype):
    clean = images(8, 12, dtype)
    mask = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    hard, soft = (blur_tokens(clean, given, 9, 1.0) for given in (mask, mask.to(dtype)))
    fine = F.interpolate(mask[:, None].to(dtype), (8, 12)).bool()
    assert torch.equal(hard, torch.where(fine, gaussian_blur(clean, 9, 1.0), clean))
    assert torch.equal(soft, hard)
    assert torch.equal(
        blur_tokens(clean, torch.ones(2, 1, 1, dtype=dtype), 9, 1.0), gaussian_blur(clean, 9, 1.0)
    )
    assert torch.equal(blur_tokens(clean, torch.zeros(2, 1, 1, dtype=dtype), 9, 1.0), clean)
