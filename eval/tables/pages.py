"""Pages and their places: what stands in a place is made from results, and intervals stand nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eval.tables.figure import written
from eval.tables.results import EXPERIMENTS, RESULTS, planned, read_result, result_path, views
from eval.tables.together import together
from tokenrank_guidance.report import Json

PAGES = ("README.md", "docs/**/*.md", "tokenrank_guidance/tiny/weights/*/README.md")
TABLE = re.compile(r"<!-- table: ([^>]*?) -->\n(.*?)<!-- /table -->", re.DOTALL)
NUMBER = re.compile(r"<!-- n: ([^>]*?) -->(.*?)<!-- /n -->", re.DOTALL)
FIRST = re.compile(r"^ {0,3}<!-- n: [^>]*-->", re.MULTILINE)
MARKS = re.compile(r"<!-- /?(?:table|n)\b.*?-->", re.DOTALL)
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
END = r"[+−-]?\d*\.?\d+"
LOOSE = re.compile(rf"\d\*{{0,2}}(?: %)? [(\[]{END}(?: %)? ?(?:–|to|,) ?{END}(?: %)?[)\],]")
TOGETHER = "differences/"
UNMEASURED = f"*not measured yet; `{RESULTS}/{EXPERIMENTS}` has the command*"


def pages(root: Path) -> list[Path]:
    """The pages of a checkout that show results."""
    return [path for pattern in PAGES for path in sorted(root.glob(pattern))]


@dataclass(frozen=True)
class Filler:
    """Makes what stands in the places of a page of the checkout `root`."""

    root: Path
    page: Path

    def filled(self, text: str) -> str:
        """The page's text with every place filled, but for those in code, which show how one is written.

        Raises ValueError for a place that is not closed, a result that there is not and that no experiment is
        to give, a key or view that it has not.
        """
        whole = text
        for pattern, make in ((TABLE, self.table), (NUMBER, self.number)):
            code = [part.span() for part in CODE.finditer(whole)]
            whole = pattern.sub(partial(self._put, make=make, code=code), whole)
        first = FIRST.search(_without(whole, CODE, TABLE))
        if first:
            raise ValueError(f"{self.page}: {first.group()!r} begins a line, which is HTML then: move it on")
        left = MARKS.search(_without(whole, CODE, TABLE, NUMBER))
        if left:
            raise ValueError(f"{self.page}: {left.group()} opens or closes no place")
        return whole

    def table(self, words: list[str]) -> str:
        """A table by `KIND/NAME [VIEW]`, the first of its report's where no view is named, and its source.

        By `differences/FIELD KIND/NAME …` one of all these reports' differences.
        """
        if words and words[0].startswith(TOGETHER):
            return self._together(words[0].removeprefix(TOGETHER), words[1:])
        name, view = (*words, "")[:2]
        report = self._report(name)
        if report is None:
            return f"{UNMEASURED}\n"
        known = views(report, name).tables
        if view and view not in known:
            raise ValueError(f"{name} has no view {view!r}; expected one of {', '.join(known)}")
        table = known[view or next(iter(known))](report)
        return f"{table}\n\n{self.source(name, report)}\n"

    def _together(self, field: str, names: Sequence[str]) -> str:
        if not field or not names:
            raise ValueError("differences/FIELD names no field or no report; expected KIND/NAME … behind it")
        found = {name: self._report(name) for name in names}
        known = {name: report for name, report in found.items() if report is not None}
        if len(known) < len(found):
            return f"{UNMEASURED}\n"
        return f"{together(known, field, self._link)}\n"

    def number(self, words: list[str]) -> str:
        """A number by `KIND/NAME KEY FORMAT [PART]`, a few words where its result is not there yet."""
        if len(words) not in (3, 4):
            raise ValueError(f"got {' '.join(words)!r}; expected KIND/NAME KEY FORMAT [PART]")
        report = self._report(words[0])
        return UNMEASURED if report is None else written(report, words[1:])

    def source(self, name: str, report: Json) -> str:
        """Where the table is from: its file, n, commit, device and date."""
        commit = report["commit"] or "unknown"
        told = f"n = {report['n']}, commit {commit[:7]}, {report['device']}, {report['date'][:10]}"
        return f"<sub>{self._link(name)}: {told}</sub>"

    def _link(self, name: str) -> str:
        path = Path(os.path.relpath(result_path(self.root, name), self.page.parent)).as_posix()
        return f"[{name}]({path})"

    def _report(self, name: str) -> Json | None:
        report = read_result(self.root, name)
        if report is None and name not in planned(self.root):
            raise ValueError(f"there is no {result_path(self.root, name)}, nor an experiment of that name")
        return report

    def _put(
        self, place: re.Match[str], make: Callable[[list[str]], str], code: Sequence[tuple[int, int]]
    ) -> str:
        if any(first <= place.start() < last for first, last in code):
            return place.group()
        opening = place.group()[: place.start(2) - place.start()]
        closing = place.group()[place.end(2) - place.start() :]
        try:
            return opening + make(place.group(1).split()) + closing
        except ValueError as error:
            raise ValueError(f"{self.page}, line {_line(place.string, place.start())}: {error}") from error


def loose(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each figure with an interval that stands in no place, code left aside."""
    for found in LOOSE.finditer(_without(text, CODE, TABLE, NUMBER)):
        yield _line(text, found.start()), found.group()


def _without(text: str, *patterns: re.Pattern[str]) -> str:
    """Blanks in place of what matches, so that lines and positions stay."""
    for pattern in patterns:
        text = pattern.sub(lambda part: re.sub(r"[^\n]", " ", part.group()), text)
    return text


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
