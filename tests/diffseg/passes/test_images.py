"""Whatever users call an image."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg.passes.images import read_images, resized
from diffseg.passes.sizes import working_size


def read(image):
    return read_images(image)[0][0]


RED = np.array([[[255, 0, 51]]], dtype=np.uint8)


def test_pil_array_and_tensor_of_one_picture_are_the_same():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = torch.from_numpy(array).movedim(-1, 0) / 255
    assert expected.shape == (3, 5, 7)
    for image in (
        Image.fromarray(array),
        array,
        np.asarray(Image.fromarray(array)),  # which cannot be written to
        array / 255,
        torch.from_numpy(array).movedim(-1, 0),
        expected,
    ):
        torch.testing.assert_close(read(image), expected)


def test_batches_and_single_images():
    array = np.zeros((2, 4, 6, 3), dtype=np.uint8)
    assert [len(read_images(array)[0]), read_images(array)[1]] == [2, False]
    assert read_images(torch.zeros(3, 3, 4, 6))[0][2].shape == (3, 4, 6)
    assert read_images([array[0], Image.new("L", (3, 2))])[1] is False
    assert read_images(array[0])[1] is True


def test_grey_palette_and_cmyk():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    expected = (torch.from_numpy(grey) / 255).expand(3, -1, -1)
    for image in (Image.fromarray(grey), grey, grey[..., None], torch.from_numpy(grey)):
        torch.testing.assert_close(read(image), expected)
    for mode in ("P", "CMYK", "YCbCr", "1", "LA"):
        assert read(Image.fromarray(RED).convert("RGB").convert(mode)).shape == (3, 1, 1)


def test_transparent_pixels_lie_over_white():
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    expected = torch.tensor([[1, 1, 0.8], [0, 1, 0.8], [0, 1, 0.8]])
    torch.testing.assert_close(read(Image.fromarray(pixels))[:, 0], expected)
    torch.testing.assert_close(read(pixels)[:, 0], expected)


def test_sixteen_bits_keep_their_steps():
    pixels = np.array([[0, 1, 256, 65535]], dtype=np.uint16)
    expected = torch.tensor([0, 1, 256, 65535]) / 65535
    for image in (
        Image.fromarray(pixels),
        pixels,
        Image.fromarray(pixels.astype(np.int32)),
        pixels.astype(">u2"),
    ):
        torch.testing.assert_close(read(image)[1, 0], expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((2, 2, 3), 200.0), r"values in \[200, 200\], expected \[0, 1\]"),
        (np.full((2, 2), np.nan), r"values in \[nan"),
        (np.full((2, 2), 70000, dtype=np.int32), "expected .0, 65535."),
        (np.zeros((2, 2), dtype=np.int64), "torch.int64, expected bool"),
        (np.zeros((2, 2, 2)), "2 channels of 2×2"),
        (np.zeros((0, 2, 3)), "0×2 has no pixels"),
        (np.zeros(4), r"array of shape \(4,\)"),
        (torch.zeros(4), r"tensor of shape \(4,\)"),
        ("china.jpg", "got str, expected a PIL image"),
        ([], "empty sequence"),
        ([None], "got NoneType"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        read_images(image)


def test_huge_images_are_refused(monkeypatch):
    monkeypatch.setenv("TOKENRANK_MOST_PIXELS", "99")
    for image in (Image.new("RGB", (10, 10)), np.zeros((10, 10)), torch.zeros(3, 10, 10)):
        with pytest.raises(ValueError, match="10×10 pixels; the limit is 99; set TOKENRANK_MOST_PIXELS"):
            read(image)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (512, 512)), ((427, 640), (448, 640)), ((1, 1), (512, 512)), ((3, 9000), (256, 1024))],
)
def test_working_size_keeps_the_area_and_limits_the_aspect(size, expected):
    assert working_size(size, 512, 64, square=False) == expected
    assert working_size(size[::-1], 512, 64, square=False) == expected[::-1]
    assert working_size(size, 512, 64, square=True) == (512, 512)


def test_resizing_stays_in_range_and_leaves_the_right_size_alone():
    image = torch.rand(3, 50, 1, generator=torch.Generator().manual_seed(0))
    assert resized(image, (50, 1)) is image
    small = resized(image, (8, 8))
    assert small.shape == (3, 8, 8) and small.min() >= 0 and small.max() <= 1
