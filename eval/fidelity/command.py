"""`python -m eval.fidelity`: opens the arms, measures them, writes report and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.fidelity.extractor import STAND_IN
from eval.fidelity.images import open_generated
from eval.fidelity.measure import Measured, measure
from eval.fidelity.options import parse
from eval.fidelity.resampling import Estimate
from eval.report import markdown_table, provenance
from tokenrank_guidance.files.writing import check_writable, write_text
from tokenrank_guidance.messages import say
from tokenrank_guidance.report import emit


def main(argv: Sequence[str]) -> None:
    """Measure what the arguments name."""
    arguments = parse(argv)
    check_writable(arguments.out)
    measured = measure(arguments, open_generated(arguments.folders), arguments.out)
    if measured.extractor.is_stand_in:
        say(STAND_IN)
    write_text(arguments.out / "table.md", table(measured) + "\n")
    head = provenance(vars(arguments), arguments.resampling_seed, len(measured.arms[0]))
    emit(head | measured.to_json(), arguments.out)


def table(measured: Measured) -> str:
    """The arms' figures, then the differences, in Markdown; a stand-in says that it is one."""
    named = list(next(iter(measured.figures.values())))
    rows = [_row(arm.arm, arm.cost, measured.figures[arm.arm]) for arm in measured.arms]
    parts = [markdown_table(rows, ["arm", *named, "evaluations", "s/image"])]
    if measured.differences:
        pairs = [
            {"difference": f"{a} − {b}"} | {name: _difference(one) for name, one in found.items()}
            for (a, b), found in measured.differences.items()
        ]
        parts.append(markdown_table(pairs, ["difference", *named]))
    warning = [STAND_IN] if measured.extractor.is_stand_in else []
    n = f"n = {len(measured.arms[0])} images per arm; 95 % intervals in brackets, p by permutation of pairs."
    return "\n\n".join([*parts, n, *warning, *measured.notes])


def _row(name: str, cost: Any, figures: Any) -> dict[str, object]:
    spelt = {metric: f"{one.value:.4g} {one.ends('.4g')}" for metric, one in figures.items()}
    costs = {"evaluations": cost.get("denoiser_evaluations"), "s/image": _seconds(cost)}
    return {"arm": name, **spelt, **costs}


def _seconds(cost: Any) -> float | None:
    """Of an image; arms that were drawn before figures had one shape hold a plain number."""
    found = cost.get("seconds_per_image")
    return found["value"] if isinstance(found, Mapping) else found


def _difference(one: Estimate) -> str:
    chance = "" if one.p is None else f" p = {one.p:.3f}"
    return f"{one.value:+.3g} {one.ends('.4g')}{chance}"
