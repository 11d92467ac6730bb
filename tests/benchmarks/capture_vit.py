"""What capture adds to a vision transformer: `python -m tests.benchmarks.capture_vit MODEL` prints JSON.

MODEL is a folder of transformers or a hub id. Plain passes, passes under an attached tap and passes in a
`capture` block of their own take turns in rounds; each ratio is the median over the rounds of one run, on one
thread and in CPU time, which other load on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
import transformers
from torch import nn
from tqdm import tqdm

from tokenrank_guidance.capture import AttentionTap, capture

Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--layer", type=int, default=-2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = transformers.AutoModelForImageClassification.from_pretrained(
        options.model, dtype=torch.float32
    ).eval()
    seconds = measure(ways(model, options.layer, options.batch), options.rounds)
    print(json.dumps(report(seconds, vars(options)), indent=1))


def ways(model: nn.Module, layer: int, batch: int) -> dict[str, Work]:
    """The same pass of 224 px pictures, without and with one captured layer; "again" shows the noise."""
    pictures = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    tap = AttentionTap(model, layer)

    def tapped() -> None:
        tap.attach()
        model(pictures)
        tap.detach()

    def captured() -> None:
        with capture(model, layer):
            model(pictures)

    def plain() -> None:
        model(pictures)

    return {"plain": plain, "again": plain, "tap": tapped, "capture": captured}


@torch.no_grad()
def measure(methods: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every method in every round; each round starts with the next one."""
    for _ in range(5):
        for work in methods.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for i in tqdm(range(rounds), file=sys.stderr):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.process_time()
            methods[name]()
            seconds[name].append(time.process_time() - start)
    return seconds


def report(seconds: dict[str, list[float]], config: dict[str, object]) -> dict[str, object]:
    results = {}
    for name, own in seconds.items():
        ratios = [mine / plain for mine, plain in zip(own, seconds["plain"], strict=True)]
        results[name] = {"ms": 1e3 * median(own), "ratio": median(ratios), "ratio_ci": interval(ratios)}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"results": results, "n": config["rounds"], "config": config, "versions": versions}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Order statistics that hold the median in 95 % of samples, by the normal approximation."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    last = len(values) - 1
    low, high = round(last / 2 - half), round(last / 2 + half)
    return ordered[max(low, 0)], ordered[min(high, last)]


if __name__ == "__main__":
    main()
