"""Every encoding to the right pixels, or one clear reason."""

import io

import numpy as np
import pytest
from PIL import Image

from diffseg.passes.images import read_images
from eval.data.decode import decode_mask
from tests.eval.data.pictures import encoded, index_mask, plain
from tokenrank_guidance.files.pictures import FORMATS, SUFFIXES, decode_image, open_picture


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
    monkeypatch.setenv("TOKENRANK_MOST_PIXELS", "11")
    with pytest.raises(ValueError, match=r"4×3 pixels; the limit is 11; set TOKENRANK_MOST_PIXELS"):
        decode_image(encoded(plain(3)))
    monkeypatch.setenv("TOKENRANK_MOST_PIXELS", "many")
    with pytest.raises(ValueError, match="TOKENRANK_MOST_PIXELS is 'many'; expected a whole number"):
        decode_image(encoded(plain(3)))


def test_a_limit_beyond_pillows_own_is_kept_to(monkeypatch):
    data = encoded(Image.new("1", (200, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # Pillow refuses twice as many
    with pytest.raises(ValueError, match="it has too many pixels; the limit is"):
        decode_image(data)
    monkeypatch.setenv("TOKENRANK_MOST_PIXELS", str(2**27))
    assert decode_image(data).size == (200, 200)


def test_a_huge_header_warns_of_nothing():
    data = io.BytesIO()
    Image.new("1", (13000, 13000)).save(data, "PNG")
    with pytest.raises(ValueError, match="13000×13000"):
        decode_image(data.getvalue())


SAVED = {".mpo": "JPEG", ".apng": "PNG", ".avifs": "AVIF", ".j2c": "JPEG2000", ".jpc": "JPEG2000"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_of_the_list_is_decoded(suffix):
    kind = SAVED.get(suffix) or Image.registered_extensions()[suffix]
    found = decode_image(encoded(Image.new("RGB", (32, 24), (250, 5, 5)).convert(MODES.get(suffix)), kind))
    assert found.size == (32, 24)
    assert np.abs(np.asarray(found)[5, 5].astype(int) - WANTED.get(suffix, (250, 5, 5))).max() < 12


MODES = {".pgm": "L", ".pbm": "1"}
WANTED = {".pgm": (78, 78, 78), ".pbm": (0, 0, 0)}


def test_every_suffix_is_pillows_name_for_its_format():
    known = Image.registered_extensions()
    for kind, suffixes in FORMATS.items():
        assert {known[suffix] for suffix in suffixes} - {"MPO"} <= {kind.replace("DIB", "BMP"), "DIB"}


def test_what_could_run_another_program_is_not_opened():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert Image.open(io.BytesIO(script)).format == "EPS"
    with pytest.raises(ValueError, match="no image of a known format"):
        decode_image(script)


def half_zeros(data: bytes) -> bytes:
    """A copy that stopped half-way on a file of the full size."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_a_half_copied_file_is_decoded_or_one_line_with_its_name(kind, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8))
    path = tmp_path / "half.bin"
    path.write_bytes(half_zeros(encoded(noise, kind)))
    said = reason(open_picture, path)
    assert said is None or (said.startswith(f"cannot read {path} as a picture: ") and "\n" not in said)
    assert said is not None or kind not in ("PNG", "GIF")  # others have no checks, or fill up what is missing


def reason(reader, path) -> str | None:
    """Why the reader refuses the file; None if it does not. Anything but a ValueError fails the test."""
    try:
        reader(path)
    except ValueError as error:
        return str(error)
    return None


def test_an_opened_picture_that_is_damaged_is_named_by_what_reads_it(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8))
    (tmp_path / "half.png").write_bytes(half_zeros(encoded(noise)))
    with (
        Image.open(tmp_path / "half.png") as image,
        pytest.raises(ValueError, match=r"half\.png cannot be decoded: broken PNG"),
    ):
        read_images(image)


def test_masks_are_indices():
    assert decode_mask(index_mask([[0, 1], [10, 255]]), (2, 2)).tolist() == [[0, 1], [10, 255]]
    palette = Image.fromarray(np.array([[3, 255]], dtype=np.uint8)).convert("P")
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
