"""`python -m eval.sweep`: draws and measures every setting, chooses, reports on other seeds."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from accelerate import PartialState

from eval.fidelity.command import config_of
from eval.fidelity.extractor import STAND_IN
from eval.fidelity.images import open_generated
from eval.fidelity.measure import Measured, every_pair, measure, no_pair
from eval.fidelity.options import NATIVE
from eval.fidelity.plan import plan, square_side
from eval.generate.arms import Arm
from eval.generate.command import generate
from eval.generate.task import Task, open_task
from eval.processes import agreed, join_processes
from eval.report import provenance
from eval.running import write_views
from eval.sweep.options import candidates, parse
from eval.sweep.views import VIEWS
from sag.kinds import NONE
from tokenrank_guidance.files.writing import check_writable
from tokenrank_guidance.messages import say
from tokenrank_guidance.report import emit, plain

LOWER = ("fid", "frechet", "kid")


def main(argv: Sequence[str]) -> None:
    """Choose on one range of seeds, report on the other; everything is checked before the first image."""
    arguments = parse(argv)
    tried = candidates(arguments)
    state = join_processes(arguments.device)
    every = [Arm(NONE), *(arm for arms in tried.values() for arm in arms)]
    task = open_task(Namespace(**vars(arguments), seed=arguments.choose_seed), state)
    task.drawings(tuple(dict.fromkeys(every)))
    agreed(state, lambda: check_measuring(arguments, task.prompts.labels))
    choosing = _stage(arguments, state, task, "choose", every, no_pair)
    best = agreed(state, lambda: choose(tried, choosing, arguments.by))
    reporting = _stage(arguments, state, task, "report", [Arm(NONE), *best.values()], every_pair)
    if state.is_main_process and choosing is not None and reporting is not None:
        _report(arguments, best, choosing, reporting)


def check_measuring(arguments: Namespace, labels: Sequence[str | None]) -> None:
    """Raise ValueError for what could not be measured or chosen by, OSError for nowhere to write."""
    side = arguments.resolution
    if None not in (arguments.reference, arguments.height, arguments.width) and side is None:
        side = square_side(arguments.height, arguments.width)
    for n in (arguments.choose_n, arguments.report_n):
        own = list(islice(cycle(labels), n))
        planned = plan(arguments, n, [own], None if side == NATIVE else side)
        criterion(planned.figures, arguments.by)
    check_writable(arguments.out)


def _stage(
    arguments: Namespace,
    state: PartialState,
    task: Task,
    name: str,
    arms: Sequence[Arm],
    pairing: Callable[..., list[Any]],
) -> Measured | None:
    """Draw and measure one range of seeds; only the main process measures."""
    folder = arguments.out / name
    n, seed = getattr(arguments, f"{name}_n"), getattr(arguments, f"{name}_seed")
    unique = tuple(dict.fromkeys(arms))
    drawn = Namespace(**{**vars(arguments), "out": folder, "arms": unique, "n": n, "seed": seed})
    generate(drawn, state, task.reseeded(seed))
    measured = None
    if state.is_main_process:
        cache = arguments.cache or arguments.out / "features"
        settings = Namespace(**{**vars(arguments), "n": n, "cache": cache})
        sets = open_generated([folder / arm.folder for arm in unique])
        measured = measure(settings, sets, folder, pairing)
    state.wait_for_everyone()
    return measured


def choose(tried: Mapping[Arm, Sequence[Arm]], measured: Measured | None, by: str | None) -> dict[Arm, Arm]:
    """The best setting of each arm by the figure `by`; the first of equal ones. ValueError without it."""
    assert measured is not None
    metric, figures = criterion(_known(measured), by), measured.figures
    sign = 1 if metric.startswith(LOWER) else -1
    return {
        base: min(arms, key=lambda arm: sign * figures[arm.text][metric].value)
        for base, arms in tried.items()
    }


def criterion(known: Sequence[str], by: str | None) -> str:
    """The figure that settings are chosen by: the first that is measured unless another is named."""
    if by is not None and by not in known:
        raise ValueError(f"--by is {by!r}; expected one of what is measured: {', '.join(known)}")
    return by or known[0]


def _known(measured: Measured) -> list[str]:
    return list(next(iter(measured.figures.values())))


def _report(arguments: Namespace, best: Mapping[Arm, Arm], choosing: Measured, reporting: Measured) -> None:
    if reporting.extractor.is_stand_in:
        say(STAND_IN)
    metric = criterion(_known(choosing), arguments.by)
    config = config_of(arguments, reporting)
    config |= {"arms": [arm.text for arm in arguments.arms], "by": metric}
    head = provenance(config, arguments.report_seed, arguments.report_n)
    chosen = {"chosen": {base.text: arm.text for base, arm in best.items()}}
    report = plain(head | chosen | reporting.to_json() | {"choosing": choosing.to_json()})
    write_views(arguments.out, VIEWS, report)
    emit(report, arguments.out)
