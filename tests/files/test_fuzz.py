"""Damage at random: pictures and journals are read, or refused in one line."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.running import UNREADABLE
from tests.eval.data.pictures import encoded
from tests.files.bad_files import noise
from tests.files.test_bad_files import masked
from tokenrank_guidance.files.pictures import decode_image

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
PICTURES = [encoded(noise(24), kind) for kind in KINDS]
SHAPE = (2, 3)
JOURNAL = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"config": {"data": "abc", "limit": 3}},
        {"key": "0", "record": {"rank": [[0, 1, 2]] * 2, "probability": [[0.5, None, 1.0]] * 2}},
        {"key": "1", "record": {"unreadable": "no picture"}},
        {"key": "12", "record": {"rank": [[3, 0, 9]] * 2, "probability": [[0.25, 0.0, 1e-6]] * 2}},
    )
)
SNIPPETS = [b"\n", b"", b"[", b"]", b"{}", b"null", b"-1", b"1e999", b"NaN", b'"', b"\\ud800", b"9" * 99]
MANY = pytest.param(20_000, marks=pytest.mark.slow)


def damaged(wholes: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of them, with pieces exchanged for others and maybe cut off."""
    piece = st.tuples(
        st.integers(0, 4000), st.integers(0, 9), st.sampled_from(SNIPPETS) | st.binary(max_size=9)
    )

    def apply(given: tuple[bytes, list[tuple[int, int, bytes]], float]) -> bytes:
        data, pieces, kept = given
        for start, length, new in pieces:
            start %= len(data) + 1
            data = data[:start] + new + data[start + length :]
        return data[: round(kept * len(data))]

    parts = st.sampled_from(wholes), st.lists(piece, max_size=5), st.sampled_from([1, 1, 1, 0.6])
    return st.tuples(*parts).map(apply)


def some(cases: int):
    """A fixed number of cases, the same each time."""
    return settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("cases", [100, MANY])
def test_pictures(cases):
    @some(cases)
    @given(damaged(PICTURES))
    def run(data):
        try:
            image = decode_image(data)
        except ValueError as error:
            said = str(error)
        else:
            said = f"{image.mode} of {np.asarray(image).size} numbers"
        assert said.strip() and "\n" not in said and "of 0 numbers" not in said

    run()


@pytest.mark.parametrize("cases", [100, MANY])
def test_journals(cases, tmp_path):
    journals = masked(tmp_path, {"data": "abc", "limit": 3}, SHAPE)

    @some(cases)
    @given(damaged([JOURNAL]))
    def run(data):
        (tmp_path / "images-0.jsonl").write_bytes(data)
        try:
            finished = journals.records()
        except ValueError as error:
            finished, reason = {}, str(error)
        else:
            reason = f"{tmp_path}: remove the file to start anew"
        assert "\n" not in reason and str(tmp_path) in reason and "remove the file to start anew" in reason
        for key, record in finished.items():
            assert key >= 0
            if UNREADABLE not in record:
                assert np.array(record["rank"], dtype=np.int64).shape == SHAPE
                assert np.array(record["probability"], dtype=float).shape == SHAPE

    run()
