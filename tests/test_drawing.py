"""What pictures are made of."""

import numpy as np
import pytest
from PIL import Image

from tokenrank_guidance.drawing import (
    contact_sheet,
    edges,
    fitted,
    font,
    heat,
    labelled_sheet,
    shortened,
    stretched,
)


def test_contact_sheet_keeps_pixels():
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8)) for _ in range(3)]
    sheet = contact_sheet(images, columns=2)
    assert sheet.size == (12, 10)
    assert np.array_equal(np.asarray(sheet)[6:10, 0:5], np.asarray(images[2]))
    assert (np.asarray(sheet)[:, 5:7] == 255).all() and (np.asarray(sheet)[6:, 7:] == 255).all()


def test_a_labelled_sheet_has_a_line_above_each_row_and_the_pixels_as_they_are():
    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue", "black")]
    sheet = np.asarray(labelled_sheet(images, 2, "TokenRank: a model", ["a church", "a boat, " * 40]))
    for row, first in enumerate((36, 93)):  # two lines, or the row before and one more, above
        for column in range(2):
            part = sheet[first : first + 30, 42 * column : 42 * column + 40]
            assert (part == np.asarray(images[2 * row + column])).all()
        assert sheet[first - 18 : first].min() < 160  # letters
    assert sheet[:18].min() < 60


def test_a_shortened_text_fits_and_a_short_one_stays():
    assert shortened("a boat", 300) == "a boat"
    long = shortened("a boat, " * 40, 100)
    assert long.endswith("…") and 60 < font(14, "bold").getlength(long) <= 100


def test_edges_are_where_a_label_differs_from_that_above_or_to_the_left():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    assert edges(labels).tolist() == [[False, False, True], [False, False, True], [True, True, True]]
    assert not edges(np.ones((3, 2), dtype=bool)).any()


def test_stretched_values_have_their_quantiles_at_0_and_1():
    values = np.arange(101.0).reshape(1, 101)
    found = stretched(values, (0.1, 0.9))
    assert np.quantile(found, (0.1, 0.9)) == pytest.approx([0, 1])
    assert found.max() == pytest.approx(1.125)  # beyond the ends, to be clipped
    assert np.array_equal(stretched(np.full((2, 2), 7.0), (0, 1)), np.zeros((2, 2)))
    assert stretched(np.array([[0.0, 1e-9]]), (0, 1), 1e-6).max() == pytest.approx(1e-3)


def test_heat_goes_from_black_to_yellow_in_squares_and_clips():
    picture = np.asarray(heat(np.array([[0.0, 1.0], [-3.0, 9.0]]), (8, 8))).astype(int)
    assert picture.shape == (8, 8, 3)
    assert np.array_equal(picture[:4], picture[4:])
    assert np.ptp(picture[:, :4], axis=(0, 1)).max() == 0
    assert picture[0, 0].sum() < 10 < 500 < picture[0, 7].sum()


def test_fitted_is_rgb_of_the_size_and_letters_have_a_width():
    assert fitted(Image.new("L", (3, 3)), (7, 5)).size == (7, 5)
    assert fitted(Image.new("L", (3, 3)), (7, 5)).mode == "RGB"
    assert font(12, "bold").getlength("token") > font(12).getlength("token") > 0
