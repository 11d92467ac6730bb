"""What cheaper guidance costs and changes: `python -m tests.benchmarks.guidance_cost` prints and keeps JSON.

Each way to save extra passes, on an embedded model: rows that the denoiser predicts for an image (classifier-
free guidance has two a step), the time of an image (on a CPU its own, in one thread), and how far the images
are from those of full guidance (root mean square of pixels in [0, 1], with a 95 % interval over images).
Every way draws the same seeds in one process; the times are the fastest of `--repeats` turns. `text_share` is
the part of a pass that the prompt's projections take: what caching them would save of the extra pass at most.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from eval.metrics.interval import bootstrap_mean
from eval.models import open_pipeline
from eval.report import provenance
from eval.running import write_views
from eval.views import Views
from sag import SelfAttentionGuidance
from tokenrank_guidance.calls import Sampling, call_arguments, jobs_for
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.devices import usable_device
from tokenrank_guidance.files.digest import pipeline_digest
from tokenrank_guidance.markdown import markdown_table, number, with_interval
from tokenrank_guidance.program import run
from tokenrank_guidance.report import Json, emit, plain

PROMPTS = ("a photo of a church", "a photo of a French horn")
FULL = SelfAttentionGuidance()
WAYS: dict[str, SelfAttentionGuidance] = {
    "full": FULL,
    "unguided": replace(FULL, sag_scale=0),
    "every=2": replace(FULL, every=2),
    "every=4": replace(FULL, every=4),
    "stop=0.5": replace(FULL, stop=0.5),
    "start=0.5": replace(FULL, start=0.5),
    "start=0.25, stop=0.75": replace(FULL, start=0.25, stop=0.75),
    "reuse=2": replace(FULL, reuse=2),
    "reuse=4": replace(FULL, reuse=4),
    "stop=0.5, reuse=2": replace(FULL, stop=0.5, reuse=2),
}


@dataclass(frozen=True)
class Drawn:
    """Images of one way, what the denoiser did for each, and the seconds of each."""

    images: np.ndarray
    rows: float
    seconds: float


@contextmanager
def counted_rows(model: nn.Module) -> Iterator[list[int]]:
    rows: list[int] = []
    handle = model.register_forward_hook(lambda module, args, output: rows.append(output[0].shape[0]))
    try:
        yield rows
    finally:
        handle.remove()


def draw(pipe: Any, guidance: SelfAttentionGuidance, options: argparse.Namespace) -> Drawn:
    jobs = jobs_for(pipe, PROMPTS, options.images, options.seed)
    arguments = call_arguments(pipe, Sampling(options.steps, options.cfg), jobs)
    with guidance(pipe), counted_rows(denoiser_of(pipe)) as rows:
        clock = time.process_time if pipe.device.type == "cpu" else time.perf_counter
        start = clock()
        images = pipe(**arguments, output_type="np").images
        seconds = clock() - start
    return Drawn(images, sum(rows) / len(jobs), seconds / len(jobs))


def best(draws: list[Drawn]) -> Drawn:
    return min(draws, key=lambda drawn: drawn.seconds)


def text_share(pipe: Any, options: argparse.Namespace) -> float:
    """Part of the denoiser's time that its projections of the prompt take."""
    model = denoiser_of(pipe)
    spent, started = {"text": 0.0, "all": 0.0}, {}

    def watch(module: nn.Module, name: str) -> list[Any]:
        def begin(*_: object) -> None:
            started[name] = time.perf_counter()

        def end(*_: object) -> None:
            spent["all" if name == "all" else "text"] += time.perf_counter() - started[name]

        return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]

    handles = watch(model, "all")
    for name, module in model.named_modules():
        if _reads_text(model, name):
            handles += watch(module, name)
    draw(pipe, WAYS["unguided"], options)
    for handle in handles:
        handle.remove()
    return spent["text"] / spent["all"]


def _reads_text(model: nn.Module, name: str) -> bool:
    """Projections of the prompt: all that takes text in a UNet's cross-attention, or before joint blocks."""
    layer, _, leaf = name.rpartition(".")
    if leaf in ("to_k", "to_v"):
        return bool(getattr(model.get_submodule(layer), "is_cross_attention", False))
    return leaf == "context_embedder"


def measure(pipe: Any, options: argparse.Namespace) -> Json:
    turns: dict[str, list[Drawn]] = {way: [] for way in WAYS}
    for _ in tqdm(range(options.repeats), desc="turns", file=sys.stderr):
        for way, guidance in WAYS.items():  # in turns, so that the machine's load meets all alike
            turns[way].append(draw(pipe, guidance, options))
    drawn = {way: best(draws) for way, draws in turns.items()}
    rows = [_row(way, own, drawn["full"], drawn["unguided"]) for way, own in drawn.items()]
    return {"results": rows, "differences": [], "text_share": text_share(pipe, options)}


def _row(way: str, drawn: Drawn, full: Drawn, unguided: Drawn) -> Json:
    errors = np.sqrt(np.square(drawn.images - full.images).mean(axis=(1, 2, 3)))
    return {
        "way": way,
        "denoiser_rows": drawn.rows,
        "extra_rows": drawn.rows - unguided.rows,
        "seconds": drawn.seconds,
        "over_unguided": drawn.seconds / unguided.seconds,
        "distance": bootstrap_mean(errors),
    }


def ways(report: Json) -> str:
    """A line for each way."""
    rows = [
        {
            "way": row["way"],
            "extra passes": f"{row['extra_rows']:g}",
            "time, × unguided": number(row["over_unguided"], ".2f"),
            "distance to full (95 %)": with_interval(row["distance"]),
        }
        for row in report["results"]
    ]
    return markdown_table(rows, tuple(rows[0]))


VIEWS = Views({"ways": ways})


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-sd")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=16, help="of each prompt")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    options.device = usable_device(options.device)
    torch.set_num_threads(1)
    pipe = open_pipeline(options.model, options.device, "float32").pipe
    config = vars(options) | {"weights": pipeline_digest(pipe)}
    head = provenance(config, options.seed, options.images * len(PROMPTS))
    report = plain(head | measure(pipe, options))
    write_views(options.out, VIEWS, report)
    emit(report, options.out)


if __name__ == "__main__":
    sys.exit(run(main))
