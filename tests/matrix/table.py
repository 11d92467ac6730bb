"""The table of pipelines and features in docs/support.md: the cells that `tests.matrix.test_matrix` shows."""

from __future__ import annotations

from tests.matrix.cells import REFUSED_ROWS, Cell
from tests.matrix.features import FEATURES
from tests.matrix.rows import ROWS

LEGEND = "✓ works · ✗ refused, as said below · – not tried, mostly since the pipeline does not have it"


def symbol(cell: Cell) -> str:
    if not cell.exists:
        return "–"
    return "✗" if cell.refused else "✓"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _reasons() -> list[str]:
    features = [f"- {name}: “{feature.refused}”" for name, feature in FEATURES.items() if feature.refused]
    rows = [f"- {name}: “{ROWS[name].refused}”" for name in REFUSED_ROWS]
    return [*features, *rows]


def table() -> str:
    """Markdown: a line per pipeline, a column per feature, then what the refusals say."""
    lines = [_line(["Pipeline", *FEATURES]), _line(["---", *[":-:"] * len(FEATURES)])]
    for name in ROWS:
        if name not in REFUSED_ROWS:
            lines.append(_line([name, *[symbol(Cell(name, feature)) for feature in FEATURES]]))
    lines += [_line([name, *["✗"] * len(FEATURES)]) for name in REFUSED_ROWS]
    return "\n".join([*lines, "", LEGEND, "", *_reasons()])
