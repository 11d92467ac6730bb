"""`python -m eval.fidelity`: opens the arms, measures them, writes report and table."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from eval.fidelity.extractor import STAND_IN
from eval.fidelity.images import open_generated
from eval.fidelity.measure import Measured, measure
from eval.fidelity.options import parse
from eval.fidelity.views import VIEWS
from eval.report import provenance
from eval.running import write_views
from tokenrank_guidance.files.writing import check_writable
from tokenrank_guidance.messages import say
from tokenrank_guidance.report import Json, emit, plain


def main(argv: Sequence[str]) -> None:
    """Measure what the arguments name."""
    arguments = parse(argv)
    check_writable(arguments.out)
    measured = measure(arguments, open_generated(arguments.folders), arguments.out)
    if measured.extractor.is_stand_in:
        say(STAND_IN)
    head = provenance(config_of(arguments, measured), arguments.resampling_seed, len(measured.arms[0]))
    report = plain(head | measured.to_json())
    write_views(arguments.out, VIEWS, report)
    emit(report, arguments.out)


def config_of(arguments: Namespace, measured: Measured) -> Json:
    """What was asked for, and the weights of each arm's model where `eval.generate` has noted them."""
    weights = {arm.arm: arm.drawn.get("weights") for arm in measured.arms}
    return vars(arguments) | {"weights": weights}
