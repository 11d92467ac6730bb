"""The arguments of `python -m eval.tables`."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from tokenrank_guidance.options import existing, folder
from tokenrank_guidance.program import parser_of

SUMMARY = "Fill a checkout's tables from kept results."
DESCRIPTION = (
    "Fills the places of README.md, docs and model cards from results/KIND/NAME.json: tables between "
    "<!-- table: KIND/NAME [VIEW] --> (or differences/FIELD KIND/NAME …, several reports' together) and "
    "<!-- /table -->, numbers between <!-- n: KIND/NAME KEY FORMAT [ci|both|difference|less] --> and "
    "<!-- /n -->. KEY is a path as results/tokenrank/frechet_vit: names of rows and fields; a difference is "
    "differences/ARM,ARM/FIELD. FORMAT is Python's (p: per cent, no sign)."
)
KINDS = ("masking", "segmentation", "zero_shot", "fidelity", "benchmarks")
NAME = re.compile(rf"(?:{'|'.join(KINDS)})/[A-Za-z0-9._-]+")


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m eval.tables", DESCRIPTION)
    parser.set_defaults(root=Path(), action="fill")
    parser.add_argument("--root", type=existing, metavar="DIR", help="the checkout; here")
    parser.add_argument(
        "--check", action="store_const", const="check", dest="action", help="say what differs; change nothing"
    )
    actions = parser.add_subparsers(metavar="ACTION")
    keep = actions.add_parser("keep", help="put a finished report among the results", allow_abbrev=False)
    keep.set_defaults(action="keep")
    keep.add_argument(
        "report", type=existing, metavar="REPORT", help="report.json, or the folder that has it"
    )
    keep.add_argument("name", type=result_name, metavar="KIND/NAME")
    draw = actions.add_parser("draw", help="draw a kept result's figures anew", allow_abbrev=False)
    draw.set_defaults(action="draw")
    draw.add_argument("name", type=result_name, metavar="KIND/NAME")
    draw.add_argument(
        "--out", type=folder, required=True, metavar="DIR", help="gets NAME-FIGURE.png and .svg"
    )
    return parser.parse_args(argv)


def result_name(text: str) -> str:
    """A parser of KIND/NAME."""
    if not NAME.fullmatch(text):
        raise ArgumentTypeError(f"got {text!r}; expected KIND/NAME, KIND one of {', '.join(KINDS)}")
    return text
