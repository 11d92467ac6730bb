"""How long one waits before anything happens: `python -m tests.benchmarks.start` prints and saves JSON.

A fresh process each: imports, and commands that need no model. CPU seconds and the most resident memory, the
least of some rounds, as other processes only ever add to them; and which heavy libraries were loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.views import Views
from tests.benchmarks.saving import save_rows
from tokenrank_guidance.markdown import markdown_table
from tokenrank_guidance.program import run
from tokenrank_guidance.report import Json

HEAVY = ("torch", "diffusers", "transformers", "scipy", "matplotlib", "sklearn")
COMMANDS = (["--help"], ["sample", "--help"], ["sample", "--nothing"], ["explain", "--help"])
STARTS = {
    "import torch": "import torch",
    "import tokenrank_guidance, sag, diffseg": "import tokenrank_guidance, sag, diffseg",
    "from tokenrank_guidance import capture, tokenrank": "from tokenrank_guidance import capture, tokenrank",
    "from sag import SelfAttentionGuidance": "from sag import SelfAttentionGuidance",
    "from diffseg import DiffSeg": "from diffseg import DiffSeg",
    "import diffusers, and its pipeline class": "from diffusers import StableDiffusionPipeline",
} | {
    f"tokenrank {' '.join(words)}": f"""
from tokenrank_guidance.cli import main
try:
    main({words})
except SystemExit:
    pass"""
    for words in COMMANDS
}
AFTER = f"""
import json, resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = [name for name in {HEAVY} if name in sys.modules]
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("\\n" + json.dumps([used.ru_utime + used.ru_stime, peak / 1024, heavy]))
"""


@dataclass(frozen=True)
class Row:
    """CPU seconds and MiB at most, of the least of the rounds, and the heavy libraries that were loaded."""

    start: str
    seconds: float
    mib: float
    heavy: list[str]


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("start_benchmark"))
    options = parser.parse_args(argv)
    rows = [measured(name, options.rounds) for name in STARTS]
    print(table(save_rows(rows, options, VIEWS)))


def measured(name: str, rounds: int) -> Row:
    """One start in so many fresh processes."""
    made = [_once(STARTS[name]) for _ in range(rounds)]
    return Row(name, min(one[0] for one in made), min(one[1] for one in made), made[0][2])


def _once(program: str) -> tuple[float, float, list[str]]:
    command = [sys.executable, "-c", program + AFTER]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def table(report: Json) -> str:
    """A line per start."""
    return markdown_table([_line(row) for row in report["results"]], ("start", "CPU s", "MiB", "loads"))


def _line(row: Json) -> dict[str, str]:
    heavy = ", ".join(row["heavy"])
    return {
        "start": f"`{row['start']}`",
        "CPU s": f"{row['seconds']:.2f}",
        "MiB": f"{row['mib']:.0f}",
        "loads": heavy,
    }


VIEWS = Views({"starts": table})


if __name__ == "__main__":
    sys.exit(run(main))
