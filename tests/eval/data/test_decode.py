"""Every encoding to the right pixels, or one clear reason."""

import io

import numpy as np
import pytest
from PIL import Image

from eval.data import decode
from eval.data.decode import decode_image, decode_mask
from tests.eval.data.pictures import encoded, index_mask, plain


def pixels(data: bytes) -> np.ndarray:
    image = decode_image(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert pixels(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_values_in_32_bit_pixels():
    values = np.array([[0, 65535]], dtype=np.int32)
    assert pixels(encoded(Image.fromarray(values), "TIFF"))[0, :, 2].tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_an_unknown_range_is_refused(dtype):
    values = np.array([[0, 70000]], dtype=dtype)
    with pytest.raises(ValueError, match="expected 8 or 16 bits"):
        decode_image(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert pixels(encoded(image.convert(mode)))[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_palettes_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert pixels(encoded(image, transparency=1))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    clear = encoded(image, transparency=bytes([0, 255]))
    assert pixels(clear)[0].tolist() == [[255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("CMYK", "JPEG"), ("L", "WEBP")])
def test_other_modes(mode, kind):
    image = plain(255).convert("L").point(lambda v: 255).convert(mode)
    assert (pixels(encoded(image, kind)) >= 250).all()


def test_orientation_is_applied():
    image, exif = plain(7, (4, 3)), Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(image, "JPEG", exif=exif)).size == (3, 4)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("L", (2, 2), v) for v in (0, 255)]
    assert pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).max() == 0


@pytest.mark.parametrize(
    "data", [b"no image", b"", encoded(plain(3))[:40], encoded(plain(3, (99, 99)), "JPEG")[:500]]
)
def test_damage_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"\w"):
        decode_image(data)


def test_huge_images_are_refused(monkeypatch):
    monkeypatch.setattr(decode, "MOST_PIXELS", 11)
    with pytest.raises(ValueError, match=r"4×3 pixels, more than 11"):
        decode_image(encoded(plain(3)))


def test_a_huge_header_warns_of_nothing():
    data = io.BytesIO()
    Image.new("1", (13000, 13000)).save(data, "PNG")
    with pytest.raises(ValueError, match="13000×13000"):
        decode_image(data.getvalue())


def test_masks_are_indices():
    assert decode_mask(index_mask([[0, 1], [10, 255]]), (2, 2)).tolist() == [[0, 1], [10, 255]]
    palette = Image.fromarray(np.array([[3, 255]], dtype=np.uint8), "L").convert("P")
    palette.putdata([3, 255])
    assert decode_mask(encoded(palette), (2, 1)).tolist() == [[3, 255]]
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert decode_mask(encoded(bits), (2, 1)).tolist() == [[0, 1]]


def test_masks_of_a_wrong_kind():
    with pytest.raises(ValueError, match="mask is RGB; expected one channel"):
        decode_mask(encoded(plain(3)), (4, 3))
    with pytest.raises(ValueError, match="mask is 2×2, the image 4×3"):
        decode_mask(index_mask([[0, 1], [1, 0]]), (4, 3))
