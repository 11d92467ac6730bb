"""What everything costs on a GPU: `python -m tests.benchmarks.gpu` prints a table and saves JSON, in 150 s.

Guided steps, scoring, gradients, second eigenvalues, FLUX's layer, first use, host syncs, CUDA graphs,
DiffSeg and compiling. Times are milliseconds, medians of repeated runs after one to warm up. Each section has
a share of the time and stands alone: where one fails, its error is kept and the others go on. `--small` runs
everything on tiny inputs, on a CPU too, to see that it runs; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.gpu_sections import SECTIONS, Bench, Row

HEADER = ("what", "value", "unit")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=150.0, help="when to begin no other section")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS), metavar="NAME")
    parser.add_argument("--small", action="store_true", help="tiny inputs")
    parser.add_argument("--out", type=Path, default=Path("gpu_benchmark.json"))
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {**about(options), "sections": {}}
    began = time.perf_counter()
    for name in options.only:
        left = options.seconds - (time.perf_counter() - began)
        report["sections"][name] = result = run(name, options, left)
        print(table(name, result), flush=True)
        options.out.write_text(
            json.dumps(report, indent=1)
        )  # each time: an interrupted run keeps what it has
    print(f"\nsaved {options.out}, {time.perf_counter() - began:.0f} s")


def about(options: argparse.Namespace) -> dict[str, Any]:
    cuda = options.device.startswith("cuda")
    return {
        "config": {**vars(options), "out": str(options.out)},
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def run(name: str, options: argparse.Namespace, left: float) -> dict[str, Any]:
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


if __name__ == "__main__":
    main()
