"""`python -m scripts.docs.links FOLDER`: every link of a built site, and every anchor, leads somewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

LINK = re.compile(r"""<[a-z][^<>]*?\s(?:href|src)=(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
ANCHOR = re.compile(r"""\s(?:id|name)=(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
ELSEWHERE = re.compile(r"^(?:[a-z]+:|//)")
NO_PAGE = "404.html"  # says where the site is by its address, which is not known here


def broken(site: Path) -> Iterator[str]:
    """`PAGE: LINK` of each link within the site that leads to no file, or to no anchor in it."""
    for page in sorted(site.rglob("*.html")):
        if page.name == NO_PAGE:
            continue
        for link in sorted(_links(page)):
            path, _, anchor = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page.resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_relative_to(site.resolve()) or not target.is_file():
                yield f"{page.relative_to(site)}: {link}"
            elif anchor and target.suffix == ".html" and unquote(anchor) not in _anchors(target):
                yield f"{page.relative_to(site)}: {link} (no such anchor)"


def _links(page: Path) -> set[str]:
    found = {unescape(next(filter(None, groups), "")) for groups in LINK.findall(page.read_text())}
    return {link.partition("?")[0] for link in found if link and not ELSEWHERE.match(link)}


@cache
def _anchors(page: Path) -> set[str]:
    found = {unescape(next(filter(None, groups), "")) for groups in ANCHOR.findall(page.read_text())}
    return {*found, "__top", "top"}


if __name__ == "__main__":
    wrong = list(broken(Path(sys.argv[1])))
    if wrong:
        sys.exit("\n".join([*wrong, f"{len(wrong)} links lead nowhere"]))
