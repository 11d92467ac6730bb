"""What cheaper guidance costs and changes: `python -m tests.benchmarks.guidance_cost` prints a table.

Each way to save extra passes, on an embedded model: rows that the denoiser predicts for an image (classifier-
free guidance has two a step), the CPU time of an image in one thread, and how far the images are from those
of full guidance (root mean square of pixels in [0, 1], with a 95 % interval over images). Every way draws the
same seeds in one process; the times are the fastest of `--repeats` turns. `text share` is the part of a pass
that the prompt's projections take: what caching them would save of the extra pass at most.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from eval.metrics.interval import bootstrap_mean
from sag import SelfAttentionGuidance
from tokenrank_guidance.calls import Sampling, call_arguments, jobs_for
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.tiny.loader import load_pipeline

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
        start = time.process_time()
        images = pipe(**arguments, output_type="np").images
        seconds = time.process_time() - start
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


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    pipe = load_pipeline(name)
    pipe.set_progress_bar_config(disable=True)
    turns: dict[str, list[Drawn]] = {way: [] for way in WAYS}
    for _ in tqdm(range(options.repeats), desc=name, file=sys.stderr):
        for way, guidance in WAYS.items():  # in turns, so that the machine's load meets all alike
            turns[way].append(draw(pipe, guidance, options))
    full = best(turns["full"])
    unguided = best(turns["unguided"])
    rows = {}
    for way, draws in turns.items():
        drawn = best(draws)
        errors = np.sqrt(np.square(drawn.images - full.images).mean(axis=(1, 2, 3)))
        rows[way] = {
            "denoiser_rows": drawn.rows,
            "extra_rows": drawn.rows - unguided.rows,
            "cpu_seconds": drawn.seconds,
            "over_unguided": drawn.seconds / unguided.seconds,
            "distance": bootstrap_mean(errors).to_json(),
        }
    return {"ways": rows, "text_share": text_share(pipe, options)}


def table(results: dict[str, Any]) -> str:
    lines = []
    for name, result in results.items():
        lines += [f"{name}: text share {result['text_share']:.2%} of a pass", ""]
        lines.append("| way | rows | extra rows | CPU s | over unguided | distance to full |")
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
        for way, row in result["ways"].items():
            far = row["distance"]
            lines.append(
                f"| {way} | {row['denoiser_rows']:g} | {row['extra_rows']:g} | {row['cpu_seconds']:.3f} | "
                f"{row['over_unguided']:.2f} | {far['value']:.4f} [{far['low']:.4f}, {far['high']:.4f}] |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["tiny-sd", "tiny-flux"])
    parser.add_argument("--images", type=int, default=16, help="of each prompt")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print all numbers instead of the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {name: measure(name, options) for name in options.models}
    if options.json:
        versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
        json.dump({"results": results, "config": vars(options), "versions": versions}, sys.stdout, indent=1)
        print()
    else:
        print(table(results))


if __name__ == "__main__":
    main()
