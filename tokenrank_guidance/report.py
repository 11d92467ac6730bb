"""Reports as JSON, and the versions that they name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenrank_guidance.files.writing import write_text
from tokenrank_guidance.program import results_stream

Json = dict[str, Any]
REPORT = "report.json"
PACKAGES = ("tokenrank-guidance", "torch", "diffusers", "transformers")


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The installed version of each package."""
    return {name: version(name) for name in packages}


def plain(value: Any) -> Any:
    """`value` as JSON can hold it.

    Mappings and sequences are converted throughout, objects by their `to_json()`; a number that is not
    finite becomes None; anything else, a path for instance, its text.
    """
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def to_json(report: Mapping[str, object]) -> str:
    """The report as text."""
    return json.dumps(plain(report), indent=2, ensure_ascii=False, allow_nan=False)


def emit(report: Mapping[str, object], out: Path) -> None:
    """Write the report to `out`/report.json, and the same to stdout."""
    write_json(out / REPORT, report)
    print(to_json(report), file=results_stream(), flush=True)


def write_json(path: Path, report: Mapping[str, object]) -> None:
    """Write a report, whole or not at all."""
    write_text(path, to_json(report) + "\n")
