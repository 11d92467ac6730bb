"""`python -m scripts.docs.site`: assembles in build/pages what the site is built from.

That is `docs/`, the reference of public names, and files of the repository that pages lead to. In pages, a
public name that stands in code becomes a link to its page.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eval.tables.pages import TABLE
from scripts.docs import api

ROOT = Path(__file__).parents[2]
DOCS, PAGES, REFERENCE = ROOT / "docs", "build/pages", "api"
CODE = re.compile(r"^(`{3,}).*?^\1$|^#[^\n]*$", re.DOTALL | re.MULTILINE)  # blocks, and headings
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
NAME = re.compile(r"(?<![\[`])`([A-Za-z_][\w.]*)`(?![`\]])")
NUMBERS = '<div class="numbers" markdown>\n\n{}\n\n</div>'


def assemble(out: Path) -> None:
    """Write everything anew; ValueError for a link to a file that is not there."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(DOCS, out)
    for name, text in api.pages():
        page = out / REFERENCE / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
    site = Site(out)
    for page in sorted(DOCS.rglob("*.md")):
        site.bring(page)


@dataclass
class Site:
    """The assembled pages in `out`: docs at its top, other files where they lie in the repository."""

    out: Path
    names: dict[str, Path] = field(default_factory=lambda: named_pages())

    def place(self, source: Path) -> Path:
        """Where a file of the repository is, below `out`."""
        return source.relative_to(DOCS if source.is_relative_to(DOCS) else ROOT)

    def bring(self, source: Path) -> None:
        """Write a page with its links turned to where their targets are, and bring these."""
        text = TABLE.sub(lambda table: NUMBERS.format(table[0]), source.read_text())
        text = outside_code(text, lambda part: LINK.sub(lambda link: self._turned(source, link[1]), part))
        text = outside_code(text, lambda part: NAME.sub(lambda name: self._named(source, name[1]), part))
        target = self.out / self.place(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def _turned(self, source: Path, link: str) -> str:
        target = Path(os.path.normpath(source.parent / link))
        if not target.is_file():
            raise ValueError(f"{source.relative_to(ROOT)} leads to {link}, which is no file")
        copy = self.out / self.place(target)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, copy)
            if target.suffix == ".md":
                self.bring(target)
        return self._from(source, self.place(target))

    def _named(self, source: Path, name: str) -> str:
        page = self.names.get(name)
        return f"`{name}`" if page is None else f"[`{name}`]({self._from(source, page)})"

    def _from(self, source: Path, target: Path) -> str:
        return Path(os.path.relpath(target, self.place(source).parent)).as_posix()


def named_pages() -> dict[str, Path]:
    """Pages of the reference by dotted name and, of classes, by their own name where it is unique."""
    own = [one.name for one in api.public()]
    pages = {package: f"{package}.md" for package in api.PACKAGES if "." in package}
    for one in api.public():
        pages[one.dotted] = one.page
        if one.name[0].isupper() and own.count(one.name) == 1:
            pages[one.name] = one.page
    return {name: Path(REFERENCE) / page for name, page in pages.items()}


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with what is neither a block of code nor a heading changed."""
    pieces, last = [], 0
    for code in CODE.finditer(text):
        pieces += [change(text[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*pieces, change(text[last:])])


if __name__ == "__main__":
    assemble(ROOT / PAGES)
