"""What is declared of each cell; `tests.matrix.test_matrix` shows that it is so."""

from __future__ import annotations

from dataclasses import dataclass

from tests.matrix.features import FEATURES
from tests.matrix.rows import ROWS


@dataclass(frozen=True)
class Cell:
    """A pipeline and a feature."""

    row: str
    feature: str

    @property
    def exists(self) -> bool:
        """Whether the combination is tried: the pipeline has the feature, guided or not."""
        row = ROWS[self.row]
        return self.feature not in row.without and FEATURES[self.feature].fits(self.row, row)

    @property
    def refused(self) -> str:
        """The declared reason: the row's where it has one, else the feature's, else empty."""
        return ROWS[self.row].refused or FEATURES[self.feature].refused


CELLS = [Cell(row, feature) for row in ROWS for feature in FEATURES]
TRIED = [cell for cell in CELLS if cell.exists]
REFUSED_ROWS = [name for name, row in ROWS.items() if row.refused]
GUIDED = [cell for cell in TRIED if not cell.refused]
REFUSED_FEATURES = [cell for cell in TRIED if FEATURES[cell.feature].refused and not ROWS[cell.row].refused]
