"""Tables in Markdown, and figures of a report as their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Spelt = Mapping[str, Any]  # a figure as `Interval.to_json` writes it


def markdown_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The given columns of `rows` as a Markdown table.

    Floats get four significant digits, None and what a row lacks a dash; columns of numbers stand right.
    """
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(_is_number(row.get(column)) for row in rows) for column in columns]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*columns], rule, *cells))


def with_interval(figure: Spelt | None, form: str = ".3f") -> str | None:
    """`0.162 (0.145–0.179)`, `28.0 % (25.6–30.6)`: a figure and its 95 % interval, where there is one."""
    if figure is None:
        return None
    ends = interval_of(figure, form.replace("%", "p"))
    return number(figure["value"], form) + (f" ({ends})" if ends else "")


def signed(figure: Spelt | None, form: str = ".3f", chances: bool = True) -> str | None:
    """`**−0.017 (−0.025 to −0.008), p = 0.01**`: a difference, bold where its interval leaves 0 out.

    Its chance under no difference follows where the report has one and `chances` are wanted, and what Holm's
    correction makes of it.
    """
    if figure is None:
        return None
    low, high = figure["ci"]
    form = f"+{form.removeprefix('+')}"
    ends = interval_of(figure, form)
    named = {"p =": figure.get("p"), "Holm": figure.get("p_holm")} if chances else {}
    chance = "".join(f", {name} {value:.3g}" for name, value in named.items() if value is not None)
    text = number(figure["value"], form) + (f" ({ends})" if ends else "") + chance
    return f"**{text}**" if low is not None and (low > 0 or high < 0) else text


def interval_of(figure: Spelt, form: str = ".3f") -> str:
    """`0.145–0.179`, or `−0.025 to +0.008` where ends have signs; empty where there is no interval."""
    low, high = figure["ci"]
    if low is None:
        return ""
    between = " to " if low < 0 or form.startswith("+") else "–"
    return f"{number(low, form)}{between}{number(high, form)}"


def number(value: float | None, form: str) -> str:
    """By a format of Python's, with a minus sign; `%` stands apart, and `p` is per cent without it.

    A value that is None, as JSON has what is not finite, is a dash.
    """
    if value is None:
        return "–"
    text = f"{100 * value:{form[:-1]}f}" if form.endswith("p") else f"{value:{form}}".replace("%", " %")
    return text.replace("-", "−")


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float | np.number)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
