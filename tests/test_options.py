"""The types of options."""

from argparse import ArgumentTypeError

import pytest

from tokenrank_guidance.options import existing, fractions, names


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
