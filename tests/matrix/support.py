"""docs/support.md, from the walk over diffusers' pipelines and from the matrix.

`python -m tests.matrix.support` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tests.matrix.table import table
from tests.matrix.walk import IMAGES, VIDEO, Pipeline, walk

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
INTRODUCTION = """
# What is guided

*Written by `python -m tests.matrix.support`, from the pipeline classes of diffusers {version}
without {lacks}, and from the test matrix (`pytest -m matrix`). A
pipeline counts as guided where a row of the matrix, or a test of the guider, samples a tiny model of its
real classes with guidance; a reason is what enabling guidance on it says.*
"""
HEADLINE = "\n## "
NOTHING = "not tried yet"


def page() -> str:
    from diffusers import __version__ as version

    found = walk()
    lacks = ", ".join(sorted({package for one in found for package in one.lacks}))
    parts = [INTRODUCTION.format(version=version, lacks=lacks).strip(), "## Counts", _counts(found)]
    for makes, title in ((IMAGES, "Images"), (VIDEO, "Video")):
        parts += [f"## {title}", _pipelines(one for one in found if one.makes == makes)]
    parts += ["## Neither images nor video", "Not counted above.", _others(found)]
    parts += ["## Every pipeline with every feature", table()]
    return "\n\n".join(parts) + "\n"


def _counts(found: Sequence[Pipeline]) -> str:
    lines = []
    for makes in (IMAGES, VIDEO):
        for modular, kind in ((False, "pipelines"), (True, "modular pipelines")):
            these = [one for one in found if one.makes == makes and one.modular == modular]
            guided = sum(one.guided for one in these)
            waiting = sum(one.open for one in these)
            refused = len(these) - guided - waiting
            share = f"{guided / len(these):.0%}"
            lines.append(_line([f"{makes}: {kind}", *map(str, (guided, refused, waiting)), share]))
    return "\n".join(
        [_line(["", "guided", "refused", NOTHING, "share guided"]), "| --- |" + " ---: |" * 4, *lines]
    )


def _pipelines(found: Iterable[Pipeline]) -> str:
    lines = [_line([one.name, _code(one.denoisers), status(one)]) for one in found]
    return "\n".join([_line(["pipeline", "denoiser", "guided"]), "| --- | --- | --- |", *lines])


def status(one: Pipeline) -> str:
    """Yes, or why not."""
    if one.guided:
        return f"yes, {one.rows[0]}" if one.rows[0].startswith("by ") else "yes"
    if one.refused:
        return f"no: {reason(one)}"
    return f"{NOTHING}: diffusers has it where {', '.join(one.lacks)} is installed" if one.lacks else NOTHING


def reason(one: Pipeline) -> str:
    """What the error says beside the class's name and a list of what else there is."""
    said = one.refused.partition(": ")[2] or one.refused
    return said.partition("; supported:")[0]


def _others(found: Iterable[Pipeline]) -> str:
    rest = sorted((one for one in found if one.makes not in (IMAGES, VIDEO)), key=lambda one: one.makes)
    return "\n".join(
        f"- {makes}: {', '.join(f'{one.name} {_code(one.denoisers)}'.strip() for one in these)}"
        for makes, these in groupby(rest, key=lambda one: one.makes)
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names if name)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
