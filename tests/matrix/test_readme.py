"""The README's table is the matrix's own."""

from pathlib import Path

from tests.matrix.table import table

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_the_matrix_as_it_is():
    shown = README.read_text().partition("<!-- python -m tests.matrix.table -->")[2]
    assert shown.partition("<!-- end of the table -->")[0].strip() == table().strip()
