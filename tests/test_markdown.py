"""Tables in Markdown, and figures as their cells."""

import pytest

from tokenrank_guidance.interval import Interval
from tokenrank_guidance.markdown import markdown_table, number, signed, with_interval


def test_a_table():
    rows = [{"scorer": "a|b", "auc": 0.123456, "n": 3}, {"scorer": "c", "auc": None}]
    assert markdown_table(rows, ("scorer", "auc", "n")).splitlines() == [
        "| scorer | auc | n |",
        "| --- | ---: | ---: |",
        "| a\\|b | 0.1235 | 3 |",
        "| c | – | – |",
    ]


def figure(value, low, high):
    return Interval(value, low, high, 9).to_json()


@pytest.mark.parametrize(
    ("found", "form", "text"),
    [
        (figure(0.1624, 0.145, 0.1791), ".3f", "0.162 (0.145–0.179)"),
        (figure(0.28, 0.2559, 0.306), ".1%", "28.0 % (25.6–30.6)"),
        (figure(-0.02, -0.4, 0.36), "+.2f", "−0.02 (−0.40 to +0.36)"),
        (figure(0.02, 0.01, 0.36), "+.2f", "+0.02 (+0.01 to +0.36)"),
        (figure(0.5, float("nan"), float("nan")), ".2f", "0.50"),
        (None, ".2f", None),
    ],
)
def test_a_figure_with_its_interval(found, form, text):
    assert with_interval(found, form) == text


def test_a_difference_is_bold_where_its_interval_leaves_0_out():
    assert signed(figure(-0.017, -0.025, -0.008)) == "**−0.017 (−0.025 to −0.008)**"
    assert signed(figure(0.007, -0.001, 0.016)) == "+0.007 (−0.001 to +0.016)"
    assert signed(figure(3.0, 1.0, 5.0) | {"p": 0.00995}, ".0f") == "**+3 (+1 to +5), p = 0.00995**"
    assert signed(figure(3.0, 1.0, 5.0) | {"p": 0.00995}, ".0f", chances=False) == "**+3 (+1 to +5)**"
    assert signed(figure(0.021, 0.0, 0.05), ".1p") == "+2.1 (+0.0 to +5.0)"
    assert signed(figure(0.5, float("nan"), float("nan")), ".1f") == "+0.5" and signed(None) is None


def test_numbers():
    assert [number(0.718, ".1%"), number(0.718, ".1p"), number(-1.5, "+.0f"), number(None, ".1f")] == [
        "71.8 %", "71.8", "−2", "–"
    ]  # fmt: skip
