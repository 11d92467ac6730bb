"""What a chain costs: `python -m tests.benchmarks.chain` prints a table and saves it as JSON and as a plot.

Time and peak memory of TokenRank, of the second eigenvalue and of single passes by each method, against the
number of tokens. Methods take turns in rounds; ratios are medians over the rounds of one run. Where the first
takes over half a minute, one more is timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eval.views import Views
from tests.benchmarks.chain_inputs import INPUTS, InputMissingError, Pair
from tests.benchmarks.chain_methods import BASELINE, METHODS, PUBLISHED_STEPS, Method
from tests.benchmarks.memory import peak_extra_mib
from tests.benchmarks.saving import save_rows, three_digits
from tokenrank_guidance.markdown import markdown_table
from tokenrank_guidance.program import run
from tokenrank_guidance.report import REPORT, Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONG_SECONDS = 30.0
HEADER = ("method", "ms", "times baseline", "steps", "extra MiB")


@dataclass(frozen=True)
class Row:
    """One method on one input: median seconds, its baseline's over its own, products, MiB beside q and k."""

    input: str
    heads: int
    n: int
    group: str
    method: str
    seconds: float
    speedup: float | None
    steps: int
    extra_mib: float | None
    threads: int = 1


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", nargs="+", default=["gaussian", "vit"], choices=list(INPUTS))
    parser.add_argument("--tokens", nargs="+", type=int, default=[256, 1024, 4096, 16384])
    parser.add_argument("--heads", type=int, default=8, help="above 4,096 tokens one head is taken")
    parser.add_argument("--groups", nargs="+", default=list(BASELINE), choices=list(BASELINE))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, default=Path("chain_benchmark"))
    options = parser.parse_args(argv)
    rows: list[Row] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for group in measure_all(options):
            rows += group
            save(rows, options)  # each time, so that an interrupted run keeps what it has
    print(f"\nsaved {options.out / REPORT}")


def measure_all(options: argparse.Namespace) -> Iterator[list[Row]]:
    for name in options.inputs:
        for n in options.tokens:
            try:
                pair = INPUTS[name](options.heads if n <= 4096 else 1, n)
            except InputMissingError as error:
                print(f"{name}, {n} tokens: skipped, {error}", file=sys.stderr)
                continue
            q, k = (side.to(options.device, getattr(torch, options.dtype)) for side in pair)
            for group in options.groups:
                rows = measure(name, chosen_methods(group, options.methods, q), (q, k), options.rounds)
                if rows:
                    print(table(rows), flush=True)
                    yield rows


def chosen_methods(group: str, titles: Sequence[str], q: Tensor) -> dict[str, Method]:
    """Those of a group that are asked for and not too slow for the input."""
    numbers = q.shape[0] * q.shape[1] ** 2
    chosen = {title: METHODS[title] for title in METHODS if title in titles}
    return {
        title: method for title, method in chosen.items() if method.group == group and numbers <= method.most
    }


@torch.no_grad()
def measure(name: str, methods: dict[str, Method], pair: Pair, rounds: int) -> list[Row]:
    """Time methods of one group, after one run of each to warm up."""
    heads, n = pair[0].shape[:2]
    start = time.perf_counter()
    first = {title: _first(method, pair) for title, method in methods.items()}
    if time.perf_counter() - start > LONG_SECONDS:
        rounds = 1
    times = {title: [] for title in methods}
    for _ in range(rounds):
        for title, method in methods.items():
            times[title].append(_seconds(lambda method=method: method.run(*pair), pair[0].device))
    rows = []
    for title in methods:
        steps, extra = first[title]
        group = methods[title].group
        row = Row(
            name, heads, n, group, title, median(times[title]), None, steps, extra, torch.get_num_threads()
        )
        baseline = times.get(BASELINE[group])
        if baseline:
            ratios = [theirs / own for theirs, own in zip(baseline, times[title], strict=True)]
            row = replace(row, speedup=median(ratios))
        rows.append(row)
    return rows


def _first(method: Method, pair: Pair) -> tuple[int, float | None]:
    steps = 0

    def run() -> None:
        nonlocal steps
        steps = method.run(*pair)[1]

    extra = peak_extra_mib(run, pair[0].device)
    return steps, extra


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def table(rows: list[Row]) -> str:
    """A Markdown table of one group on one input."""
    first = rows[0]
    lines = [
        f"\n### {first.group}: {first.heads} × {first.n} tokens, {first.input}\n",
        "| " + " | ".join(HEADER) + " |",
        "|---" * len(HEADER) + "|",
    ]
    for row in rows:
        cells = (
            row.method,
            f"{1e3 * row.seconds:.1f}",
            "" if row.speedup is None else f"{row.speedup:.3g}",
            "" if row.steps < 0 else str(row.steps),
            "" if row.extra_mib is None else f"{row.extra_mib:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(rows: list[Row], options: argparse.Namespace) -> None:
    """The report, its table and its figure."""
    save_rows(rows, options, VIEWS, cpu=_cpu())


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "cpu")


def times(report: Json, name: str) -> str:
    """On one input: a line per method, a column per heads and tokens: milliseconds by the fewest threads.

    In brackets the products with the chain, where an iteration chooses how many.
    """
    every = [row for row in report["results"] if row["input"] == name]
    fewest = min((row["threads"] for row in every), default=1)
    cells: dict[str, Json] = {}
    for row in every:
        if row["threads"] == fewest:
            counted = row["steps"] > 0 and row["group"] != "passes" and row["steps"] != PUBLISHED_STEPS
            steps = f" ({row['steps']})" if counted else ""
            column = f"{row['heads']} × {row['n']:,}"
            line = cells.setdefault(row["method"], {f"ms, {name}": row["method"]})
            line[column] = f"{three_digits(1000 * row['seconds'])}{steps}"
    return _lines(cells, (column for row in cells.values() for column in row))


def threads(report: Json) -> str:
    """How many times as fast the most threads are as the fewest, a column per input, heads and tokens."""
    least, most = (end(row["threads"] for row in report["results"]) for end in (min, max))
    if least == most:
        return ""
    seconds = {
        (row["method"], f"{row['input']}, {row['heads']} × {row['n']:,}", row["threads"]): row["seconds"]
        for row in report["results"]
    }
    title = f"{least} / {most} threads"
    cells: dict[str, Json] = {}
    for (method, column, count), time_ in seconds.items():
        if count == least and (method, column, most) in seconds:
            ratio = time_ / seconds[method, column, most]
            cells.setdefault(method, {title: method})[column] = f"{ratio:.2f}"
    return _lines(cells, (title, *(column for _, column, _ in seconds)))


def _lines(cells: dict[str, Json], columns: Iterable[str]) -> str:
    return markdown_table([*cells.values()], tuple(dict.fromkeys(columns))) if cells else ""


def figure_of(report: Json) -> Figure:
    """Time over tokens: a row of panels per group, a column per input; open markers are one head."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    every = [Row(**row) for row in report["results"]]
    rows = [row for row in every if row.threads == every[0].threads]
    groups = [group for group in BASELINE if any(row.group == group for row in rows)]
    inputs = list(dict.fromkeys(row.input for row in rows))
    figure = Figure((4.2 * len(inputs) + 2.6, 3.6 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), len(inputs), squeeze=False)
    for line, group in zip(axes, groups, strict=True):
        methods = list(dict.fromkeys(row.method for row in rows if row.group == group))
        colours = {method: colormaps["tab20"](2 * i % 20 + i // 10) for i, method in enumerate(methods)}
        for axis, name in zip(line, inputs, strict=True):
            chosen = [row for row in rows if (row.group, row.input) == (group, name)]
            _draw(axis, chosen, colours)
            axis.set(title=f"{group}, {name}", xlabel="tokens", ylabel="seconds", xlim=(50, 20_000))
            axis.grid(alpha=0.3)
        handles = [Line2D([], [], color=colour, marker="o", markersize=4) for colour in colours.values()]
        line[-1].legend(handles, methods, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


VIEWS = Views(
    {name: partial(times, name=name) for name in INPUTS} | {"threads": threads}, {"chain": figure_of}
)


def _draw(axis: Any, rows: list[Row], colours: dict[str, Any]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    for method, colour in colours.items():
        for heads in {row.heads for row in rows}:
            points = sorted((r.n, r.seconds) for r in rows if (r.method, r.heads) == (method, heads))
            if points:
                face = "none" if heads == 1 else colour
                axis.plot(*zip(*points, strict=True), marker="o", color=colour, mfc=face, ms=4, lw=1.2)


if __name__ == "__main__":
    sys.exit(run(main))
