"""Reports that were kept: results/KIND/NAME.json, one schema, and how a report becomes one of them."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.schema import Count, Schema, validated
from eval.views import Views, views_of
from tokenrank_guidance.files.reading import read_file, read_json
from tokenrank_guidance.files.writing import RESULT, write_text
from tokenrank_guidance.report import REPORT, Json

RESULTS, EXPERIMENTS = "results", "experiments.toml"
FOLDERS = ("DATA", "MODELS", "OUT")  # variables of the environment that stand for a machine's own folders
WIDTH = 100  # characters of a line that holds a whole value
ABSOLUTE = re.compile(r"(?<![\w.$)-])/[\w.-]+/[\w./-]*")


class Result(Schema):
    """What a kept report must say: what was run, on what, and figures as `Interval.to_json` writes them."""

    command: str
    commit: str | None
    weights: str | Mapping[str, str | None] | None
    config: Json
    seed: Count
    n: Count
    versions: dict[str, str]
    device: str
    date: str
    results: list[Json]
    differences: list[Json]


def result_path(root: Path, name: str) -> Path:
    return root / RESULTS / f"{name}.json"


def read_result(root: Path, name: str) -> Json | None:
    """The kept report of that name, None where there is none; ValueError for a file that is no report."""
    path = result_path(root, name)
    if not path.is_file():
        return None
    report = read_json(path)
    try:
        validated(Result, report)
    except ValueError as error:
        raise ValueError(f"{path} is no kept report: {error}") from error
    return report


def planned(root: Path) -> set[str]:
    """The names of the experiments whose commands are written down."""
    return {f"{kind}/{name}" for kind, own in _experiments(root).items() for name in own}


def commands(root: Path, name: str) -> list[str]:
    """Those of an experiment, the last of which gives its report."""
    kind, own = name.split("/")
    return _experiments(root)[kind][own]["commands"]


def _experiments(root: Path) -> Json:
    path = root / RESULTS / EXPERIMENTS
    return tomllib.loads(read_file(path).decode()) if path.is_file() else {}


def keep(root: Path, source: Path, name: str) -> Path:
    """Put a finished report among the results, and return where.

    Folders of the machine become $DATA, $MODELS and $OUT, as these are set. Raises ValueError for what is no
    report, for one that cannot be shown, and where a folder of the machine is left in it.
    """
    report = _shortened(read_json(_report_of(source)))
    try:
        validated(Result, report)
    except ValueError as error:
        raise ValueError(f"{source} has no report that can be kept: {error}") from error
    left = ABSOLUTE.search(json.dumps([report["command"], report["config"]], ensure_ascii=False))
    if left:
        variables = ", ".join(FOLDERS)
        raise ValueError(
            f"{source} names the folder {left.group()}: set one of {variables} to where it begins"
        )
    views_of(report).markdown(report)
    path = result_path(root, name)
    write_text(path, compact(report) + "\n")
    return path


def views(report: Json, name: str) -> Views:
    """How a kept report is shown; ValueError that names it where it cannot be."""
    try:
        return views_of(report)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _report_of(source: Path) -> Path:
    if not source.is_dir():
        return source
    inside = [path for path in (source / REPORT, source / RESULT) if path.is_file()]
    if not inside:
        raise ValueError(f"{source} has no {REPORT}; the experiment has not finished there")
    return inside[0]


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if not isinstance(value, str):
        return value
    given = {name: os.environ.get(name, "").rstrip("/") for name in FOLDERS}
    for name, path in sorted(given.items(), key=lambda one: -len(one[1])):
        if path:
            value = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", f"${name}", value)
    return value


def compact(value: Any, indent: str = "") -> str:
    """JSON in which whatever fits into a line has one: a figure with its interval is read at a glance."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or len(text) <= WIDTH:
        return text
    deeper = indent + " "
    items = (
        [f"{json.dumps(key, ensure_ascii=False)}: {compact(item, deeper)}" for key, item in value.items()]
        if isinstance(value, dict)
        else [compact(item, deeper) for item in value]
    )
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}{last}"
