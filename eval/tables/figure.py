"""One number of a report: where its key leads, and how it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tokenrank_guidance.markdown import Spelt, interval_of, number, signed, with_interval
from tokenrank_guidance.report import Json

# Fields that a row may be called by, the first that it has.
NAMES = ("arm", "scorer", "map", "way", "class", "images")
PARTS: Mapping[str, Callable[[Spelt, str], str | None]] = {
    "value": lambda figure, form: number(figure["value"], form),
    "ci": lambda figure, form: interval_of(figure, form.replace("%", "p")),
    "both": with_interval,
    "difference": signed,
    "less": partial(signed, chances=False),
}


def look_up(report: Json, key: str) -> Any:
    """What a path of names leads to, as results/tokenrank/frechet_vit or differences/tokenrank,sag/miou.

    A row is found by its name, or by another of its `NAMES` where no other row has it, as a scorer of one
    layer; a difference by its two arms, a metric without the word metrics. Raises ValueError, with what there
    is, where a name leads nowhere.
    """
    found: Any = report
    for step in key.split("/"):
        known = _inside(found)
        if step not in known:
            raise ValueError(f"{key}: there is no {step!r}; expected one of {', '.join(known) or 'nothing'}")
        found = known[step]
    return found


def _inside(value: Any) -> Json:
    if isinstance(value, dict):
        metrics = value.get("metrics")
        return {**(metrics if isinstance(metrics, dict) else {}), **value}
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    named: Json = {}
    for name, row in [*((_name(row), row) for row in rows), *_alone(rows)]:
        named.setdefault(name, row)
    return named


def _alone(rows: Sequence[Json]) -> list[tuple[str, Json]]:
    """What a row alone is called by, and that row."""
    called = [(str(row[field]), row) for row in rows for field in NAMES if field in row]
    times = Counter(name for name, _ in called)
    return [(name, row) for name, row in called if times[name] == 1]


def _name(row: Json) -> str:
    if "a" in row and "b" in row:
        return f"{row['a']},{row['b']}"
    return next((str(row[name]) for name in NAMES if name in row), "")


def written(report: Json, words: Sequence[str]) -> str:
    """A number by `KEY FORMAT [PART]`; ValueError for a key that leads to none, and for an unknown part."""
    key, form, part = (*words, "value")[:3]
    found = look_up(report, key)
    figure = found if isinstance(found, dict) and "value" in found else {"value": found, "ci": [None, None]}
    if not isinstance(figure["value"], int | float):
        raise ValueError(f"{key} is no number")
    if part not in PARTS:
        raise ValueError(f"part {part!r} of {key} is unknown; expected one of {', '.join(PARTS)}")
    try:
        return PARTS[part](figure, form) or "–"
    except ValueError as error:
        raise ValueError(f"{key}: {form!r} is no format for {figure['value']}") from error
