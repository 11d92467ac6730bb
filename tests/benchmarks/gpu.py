"""What everything costs on a GPU: `python -m tests.benchmarks.gpu` prints a table and saves JSON, in 150 s.

Guided steps, scoring, gradients, second eigenvalues, FLUX's layer, first use, host syncs, CUDA graphs,
DiffSeg and compiling. Times are milliseconds, medians of repeated runs after one to warm up. Each section has
a share of the time and stands alone: where one fails, its error is kept and the others go on. `--small` runs
everything on tiny inputs, on a CPU too, to see that it runs; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eval.views import Views
from tests.benchmarks.gpu_bench import Bench, Row
from tests.benchmarks.gpu_sections import SECTIONS
from tokenrank_guidance.program import run
from tokenrank_guidance.provenance import provenance
from tokenrank_guidance.report import Json, write_json

HEADER = ("what", "value", "unit")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=150.0, help="when to begin no other section")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS), metavar="NAME")
    parser.add_argument("--small", action="store_true", help="tiny inputs")
    parser.add_argument("--out", type=Path, default=Path("gpu_benchmark.json"))
    options = parser.parse_args(arguments)
    report: Json = {**about(options), "results": [], "differences": [], "sections": {}}
    began = time.perf_counter()
    for name in options.only:
        left = options.seconds - (time.perf_counter() - began)
        report["sections"][name] = result = run_section(name, options, left)
        report["results"] += [{"section": name, **row} for row in result["rows"]]
        print(table(name, result), flush=True)
        write_json(options.out, report)  # each time: an interrupted run keeps what it has
    print(f"\nsaved {options.out}, {time.perf_counter() - began:.0f} s")


def about(options: argparse.Namespace) -> Json:
    """Where the numbers come from; each is a median of its own number of runs, so that n is 1."""
    numbers = {"cuda": torch.version.cuda, "tf32": torch.backends.cuda.matmul.allow_tf32}
    return provenance(vars(options), 0, 1) | numbers


def run_section(name: str, options: argparse.Namespace, left: float) -> dict[str, Any]:
    """A section's rows, how long it took, and what stopped it, if anything did."""
    section = SECTIONS[name]
    if left < section.least:
        return {"rows": [], "seconds": 0.0, "error": f"skipped: {left:.0f} s are left"}
    bench = Bench(torch.device(options.device), options.small, min(left, section.seconds))
    began, error = time.perf_counter(), None
    try:
        section.run(bench)
    except Exception as failure:  # whatever it is: the other sections are worth having
        error = f"{type(failure).__name__}: {failure}"
        traceback.print_exc()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    rows = [vars(row) for row in bench.rows]
    return {"rows": rows, "seconds": time.perf_counter() - began, "error": error}


def table(name: str, result: dict[str, Any]) -> str:
    """A Markdown table of one section."""
    lines = [f"\n### {name}, {result['seconds']:.0f} s\n"]
    if result["rows"]:
        lines += ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
        lines += [_line(Row(**row)) for row in result["rows"]]
    if result["error"]:
        lines += ["", result["error"].splitlines()[0]]
    return "\n".join(lines)


def _line(row: Row) -> str:
    value = f"{row.value:.4g}" if isinstance(row.value, float | int) else row.value
    return f"| {row.what} | {value} | {row.unit} |"


def sections(report: Json) -> str:
    """Every section's table."""
    return "\n".join(table(name, result) for name, result in report["sections"].items()).strip()


VIEWS = Views({"sections": sections})


if __name__ == "__main__":
    sys.exit(run(main))
