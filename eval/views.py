"""How an experiment's report is shown: tables and figures, each made of the report's JSON and nothing else.

The experiment itself writes them so, and `eval.tables` makes the same of a report that was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAMS = ("eval", "tests.benchmarks", "tokenrank_guidance")  # packages whose programs make reports
ELSEWHERE = {"tokenrank_guidance.tiny.evaluate": "eval.tables.cards"}  # imports nothing of eval itself


@dataclass(frozen=True)
class Views:
    """Tables in Markdown, empty where a report has nothing of the kind, and figures, None likewise."""

    tables: Mapping[str, Callable[[Json], str]]
    figures: Mapping[str, Callable[[Json], Figure | None]] = field(default_factory=dict)

    def markdown(self, report: Json) -> str:
        """All tables, one after the other."""
        return "\n\n".join(filter(None, (table(report) for table in self.tables.values())))

    def drawn(self, report: Json) -> dict[str, Figure]:
        """The figures that there are, by name."""
        found = {name: draw(report) for name, draw in self.figures.items()}
        return {name: figure for name, figure in found.items() if figure is not None}


def views_of(report: Json) -> Views:
    """Those of the program that made the report: `VIEWS` of its module, or of `views` in its package.

    Raises ValueError for a report of no program of this project, and for one that is not shown.
    """
    module = program_of(report)
    if not module.startswith(tuple(f"{package}." for package in PROGRAMS)):
        raise ValueError(f"a report of {module or 'no command'} is none of this project's programs")
    try:
        program = import_module(ELSEWHERE.get(module, module))
        return program.VIEWS if hasattr(program, "VIEWS") else import_module(f"{module}.views").VIEWS
    except ModuleNotFoundError as error:
        raise ValueError(f"reports of {module} have no tables: {error}") from error


def program_of(report: Json) -> str:
    """The module of `python -m MODULE …`; empty without a command."""
    words = str(report.get("command") or "").split()
    return words[2] if words[:2] == ["python", "-m"] and len(words) > 2 else ""
