"""What did best of each kind, in these results or in an earlier report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from eval.schema import Schema, validated
from tokenrank_guidance.files.reading import read_json

Item = TypeVar("Item")
Report = TypeVar("Report", bound=Schema)


class Figure(Schema):
    """A figure in a report, as `Interval.to_json` writes it."""

    value: float


def best_of(
    items: Iterable[Item], kind: Callable[[Item], str], value: Callable[[Item], float]
) -> dict[str, Item]:
    """The item of the highest value of each kind, of equal ones the first."""
    best: dict[str, Item] = {}
    for item in items:
        if kind(item) not in best or value(item) > value(best[kind(item)]):
            best[kind(item)] = item
    return best


def read_report(path: Path, experiment: str, schema: type[Report]) -> Report:
    """An earlier report of an experiment; ValueError for another file."""
    try:
        return validated(schema, read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a report of {experiment}: {error}") from error
