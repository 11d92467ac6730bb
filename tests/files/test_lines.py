"""Line n is item n, whatever the editor that wrote it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenrank_guidance.files.lines import read_lines

BOM = "\ufeff"
OTHERS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("\n", [""]),
        ("a\n\nb\n\n", ["a", "", "b", ""]),
        (BOM + "a cat\r\na dog\r\n", ["a cat", "a dog"]),
        ("a\rb\r", ["a", "b"]),
        ("a\r\r\nb", ["a", "", "b"]),
        (BOM, []),
        *((f"on{mark}grass\nb\n", [f"on{mark}grass", "b"]) for mark in OTHERS),
    ],
)
def test_lines(tmp_path, text, lines):
    (tmp_path / "x.txt").write_bytes(text.encode())
    assert read_lines(tmp_path / "x.txt") == lines


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
def test_the_lines_are_those_of_pythons_text_files(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "same.txt"
    path.write_bytes(text.encode())
    expected = [line.removesuffix("\n") for line in io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")]
    assert read_lines(path) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("a cat\na dog\n".encode("utf-16"), "looks like UTF-16"),
        ("a cat\na dog\n".encode("utf-16-be"), "looks like UTF-16"),
        ("a cat\n".encode("utf-32"), "looks like UTF-16 or 32"),
        ("tea\r\ncaf\xe9\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (BOM.encode() + b"a\rb\r\xff", "line 3: byte 0xff"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_utf8_says_so(tmp_path, data, reason):
    if data is not None:
        (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(ValueError, match=reason) as caught:
        read_lines(tmp_path / "x.txt")
    assert str(tmp_path / "x.txt") in str(caught.value)
