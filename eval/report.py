"""Results and where they came from: JSON, tables and figures, each written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eval.streams import results_stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]
# Okabe and Ito's, which colour-blind eyes tell apart, and two more.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#a5aa00", "#000000")
REPORT = "report.json"
PACKAGES = ("tokenrank-guidance", "torch", "diffusers", "transformers", "torch-fidelity")


def provenance(config: Mapping[str, object], seed: int, n: int) -> Json:
    """What every report begins with: settings, seed, sample count, versions, device and date (UTC)."""
    return {
        "config": plain(config),
        "seed": seed,
        "n": n,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {platform.machine()}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


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


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    write_whole(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a scratch file of the same suffix, then put it in place of `path`.

    Folders that are missing are made. Raises OSError, naming `path`, where that cannot be written.
    """
    scratch = _scratch(path)
    try:
        write(scratch)
        os.replace(scratch, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            scratch.unlink()


def check_writable(folder: Path) -> None:
    """OSError now, before hours of work, for a folder that cannot be written or made."""
    _scratch(folder / REPORT).unlink()


def _scratch(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        os.chmod(handle, 0o666 & ~_umask())  # mkstemp's files are private
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_figure(figure: Figure, path: Path) -> None:
    """Write a matplotlib figure as PNG or SVG, the same bytes for the same figure.

    Raises ValueError for another suffix.
    """
    import matplotlib

    formats = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
    if path.suffix not in formats:
        raise ValueError(f"figure {path} ends in {path.suffix!r}; expected {' or '.join(formats)}")
    metadata = formats[path.suffix]
    with matplotlib.rc_context({"svg.hashsalt": "tokenrank"}):
        write_whole(path, lambda scratch: figure.savefig(scratch, dpi=160, metadata=metadata))


def markdown_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The given columns of `rows` as a Markdown table.

    Floats get four significant digits, None and what a row lacks a dash; columns of numbers stand right.
    """
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(_is_number(row.get(column)) for row in rows) for column in columns]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*columns], rule, *cells))


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float | np.number)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
