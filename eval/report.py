"""How experiments report: where a result came from, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokenrank_guidance.files.writing import write_whole
from tokenrank_guidance.provenance import provenance as _provenance
from tokenrank_guidance.report import PACKAGES, Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, which colour-blind eyes tell apart, and two more.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#a5aa00", "#000000")


def provenance(config: Mapping[str, object], seed: int, n: int) -> Json:
    """What every report begins with, torch-fidelity's version among the others."""
    return _provenance(config, seed, n, (*PACKAGES, "torch-fidelity"))


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
