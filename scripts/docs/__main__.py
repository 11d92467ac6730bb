"""`python -m scripts.docs`: writes what pages say of the code."""

from pathlib import Path

from scripts.docs import troubleshooting
from scripts.docs.places import ROOT, filled, pages

TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"


def write(page: Path, text: str) -> None:
    """Where it is not there already."""
    if not page.exists() or page.read_text() != text:
        page.write_text(text)
        print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    for page in pages():
        write(page, filled(page.read_text()))
    write(TROUBLESHOOTING, troubleshooting.page())
