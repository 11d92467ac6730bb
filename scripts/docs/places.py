"""Places in pages, and what stands in them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.docs.families import families
from scripts.docs.programs import help_of

ROOT = Path(__file__).parents[2]
EXAMPLES, COLAB = "examples", "https://colab.research.google.com/github/"
PAGES = ("README.md", "docs/**/*.md")


def source(path: str) -> str:
    """A file of this repository as a block of code."""
    return block((ROOT / path).read_text(), Path(path).suffix.removeprefix("."))


def examples(words: str) -> str:
    """What each example says of itself, with where it is and where Colab opens it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    home = urls["Repository"].replace("https://github.com/", COLAB)
    parts = []
    for path in sorted((ROOT / EXAMPLES).glob("*.py")):
        said = path.read_text().split("\n\n")[0].splitlines()[1:]  # below the mark of a cell of text
        text = "\n".join(line.removeprefix("#").strip() for line in said)
        links = (
            f"[Script](../../{EXAMPLES}/{path.name}) · [Colab]({home}/blob/main/{EXAMPLES}/{path.stem}.ipynb)"
        )
        parts.append(f"#{text}\n\n{links}")
    return "\n" + "\n\n".join(parts) + "\n\n"


def block(text: str, language: str = "") -> str:
    return f"```{'python' if language == 'py' else language}\n{text.strip()}\n```\n"


MAKERS: Mapping[str, Callable[[str], str]] = {
    "examples": examples,
    "families": lambda words: f"\n{families()}\n\n",
    "help": lambda words: block(help_of(words), "text"),
    "source": source,
}
PLACE = re.compile(
    rf"(<!-- (?P<name>{'|'.join(MAKERS)})(?:: (?P<words>[^>\n]*))? -->\n).*?(?P<end><!-- /(?P=name) -->)",
    re.DOTALL,
)


def filled(text: str) -> str:
    """A page's text with every place filled; the errors are those of what makes it."""
    return PLACE.sub(lambda one: f"{one[1]}{MAKERS[one['name']](one['words'] or '')}{one['end']}", text)


def pages() -> list[Path]:
    """Those that may have places."""
    return [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
