"""What a benchmark of rows leaves behind."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eval.report import provenance
from eval.running import write_views
from eval.views import Views
from tokenrank_guidance.report import REPORT, Json, plain, write_json


def save_rows(rows: Sequence[Any], options: argparse.Namespace, views: Views, **more: object) -> Json:
    """Write the report and what shows it to the folder `options.out`; returns the report."""
    head = provenance(vars(options), 0, options.rounds)
    report = plain(head | {"results": [asdict(row) for row in rows], "differences": []} | more)
    write_views(options.out, views, report)
    write_json(options.out / REPORT, report)
    return report


def three_digits(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{number:.3g}'):,.10g}"
