"""The types of options."""

from argparse import ArgumentTypeError

import pytest

from tokenrank_guidance.options import (
    between,
    damping,
    existing,
    folder,
    fractions,
    layer,
    names,
    positive,
    positive_number,
    words,
)


def test_fractions():
    assert fractions(".1,0.25,1") == (0.1, 0.25, 1.0)
    assert fractions(".1:.9:.1") == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert fractions("0:1:.5") == (0.0, 0.5, 1.0)
    for text in ("", "x", ".2,.1", ".1,.1", "-.1,.2", ".5,1.5", "nan", ".1:.9", ".1:.9:0", ".9:.1:.1"):
        with pytest.raises(ArgumentTypeError, match="expected rising fractions"):
            fractions(text)


def test_names():
    parse = names(["a", "b", "c"])
    assert parse("c, a,c") == ("c", "a")
    assert parse("all") == ("a", "b", "c")
    for text, wrong in (("a,x", "got x"), (" ,", "got nothing")):
        with pytest.raises(ArgumentTypeError, match=f"{wrong}; expected some of a, b, c, or all"):
            parse(text)


def test_existing(tmp_path):
    assert existing(str(tmp_path)) == tmp_path
    with pytest.raises(ArgumentTypeError, match="there is no file or folder"):
        existing(str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (positive, {"1": 1, "12": 12}, ("0", "-1", "1.5", "", "9" * 20)),
        (between(2, 3), {"2": 2, "3": 3}, ("1", "4", "two")),
        (positive_number, {"1e-3": 0.001, "2": 2.0}, ("0", "-1", "nan", "inf", "x")),
        (damping, {"0.5": 0.5}, ("0", "1", "nan", "")),
        (layer, {"-1": -1, "mid_block": "mid_block"}, ("", " ")),
        (words, {"a, b,a": ("a", "b")}, ("", " , ")),
    ],
)
def test_a_value_is_read_or_refused(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(ArgumentTypeError):
            kind(text)


def test_a_folder_has_no_name_of_a_file(tmp_path):
    (tmp_path / "odd.png").mkdir()
    assert folder(str(tmp_path / "odd.png")) == tmp_path / "odd.png"
    for text in (str(tmp_path / "new.png"), "", "x" * 5000):
        with pytest.raises(ArgumentTypeError):
            folder(text)
