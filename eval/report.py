"""How experiments report: where a result came from, tables and figures."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tokenrank_guidance.files.writing import write_whole
from tokenrank_guidance.report import PACKAGES, Json, plain, versions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, which colour-blind eyes tell apart, and two more.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#a5aa00", "#000000")


def provenance(config: Mapping[str, object], seed: int, n: int) -> Json:
    """What every report begins with: settings, seed, sample count, versions, device and date (UTC)."""
    return {
        "config": plain(config),
        "seed": seed,
        "n": n,
        "versions": {"python": platform.python_version()} | versions((*PACKAGES, "torch-fidelity")),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {platform.machine()}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


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


def plain_axes(panel: Axes, grid: float = 0.25) -> None:
    """Two spines, and a grid of that opacity."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=grid)


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
