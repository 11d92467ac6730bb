"""`python -m eval.tables`: fills pages, or says where they differ; keeps reports; draws their figures."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from eval.running import save_drawn
from eval.tables.options import parse
from eval.tables.pages import NUMBER, TABLE, UNMEASURED, Filler, loose, pages
from eval.tables.results import keep, read_result, result_path, views
from tokenrank_guidance.files.reading import read_file
from tokenrank_guidance.files.writing import write_text
from tokenrank_guidance.messages import say


def main(argv: Sequence[str]) -> None:
    """Do what the arguments ask for."""
    asked = parse(argv)
    ACTIONS[asked.action](asked)


def fill(asked: Namespace) -> None:
    """Write what the places of every page are to hold; nothing is said of pages without places."""
    for page in _pages(asked.root):
        before = _text(page)
        after = Filler(asked.root, page).filled(before)
        if not (TABLE.search(after) or NUMBER.search(after)):
            continue
        if after != before:
            write_text(page, after)
        state = f"{len(TABLE.findall(after))} tables, {after.count(UNMEASURED)} places wait for results"
        say(f"{page}: {state}{'' if after == before else ', filled'}")


def check(asked: Namespace) -> None:
    """Say what differs; ValueError where anything does."""
    wrong = [f"{page}{told}" for page in _pages(asked.root) for told in faults(asked.root, page)]
    if wrong:
        raise ValueError("; ".join(wrong))
    say("pages and results agree")


def faults(root: Path, page: Path) -> Iterator[str]:
    """What is wrong with a page: places that hold something else, and figures outside of them."""
    before = _text(page)
    after = Filler(root, page).filled(before)
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    if before != after:
        first = next((i for i, (old, new) in enumerate(lines, 1) if old != new), None)
        place = "" if first is None else f", from line {first} on"
        yield f" differs from the results{place}: run python -m eval.tables"
    for line, text in loose(before):
        yield f", line {line}: {text!r} is an interval that stands in no place"


def keep_report(asked: Namespace) -> None:
    """Put a report among the results."""
    say(f"kept {keep(asked.root, asked.report, asked.name)}")


def draw(asked: Namespace) -> None:
    """Draw the figures of a kept report."""
    report = read_result(asked.root, asked.name)
    if report is None:
        raise ValueError(f"there is no {result_path(asked.root, asked.name)}")
    figures = views(report, asked.name).drawn(report)
    if not figures:
        raise ValueError(f"{asked.name} has no figures, only tables")
    stem = Path(asked.name).name
    save_drawn(asked.out, {f"{stem}-{name}": figure for name, figure in figures.items()})
    say(f"drew {', '.join(figures)} in {asked.out}")


ACTIONS: Mapping[str, Callable[[Namespace], None]] = {
    "fill": fill,
    "check": check,
    "keep": keep_report,
    "draw": draw,
}


def _pages(root: Path) -> list[Path]:
    found = pages(root)
    if not found:
        raise ValueError(
            f"{root.resolve()} has no README.md and no docs: run this in a checkout, or give --root"
        )
    return found


def _text(page: Path) -> str:
    return read_file(page).decode()
