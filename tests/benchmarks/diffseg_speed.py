"""What merging costs: `python -m tests.benchmarks.diffseg_speed` prints JSON.

From an aggregated 64×64 chain (4,096 tokens, random smooth attention) and 256 anchors to labels at 512×512;
and the divergences alone against the element-wise ones of DiffSeg's code, on the same maps in the same run.
The element-wise time is scaled to 256 anchors, where `--anchors` asks for fewer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg import Settings, segment_chain
from diffseg.maps.aggregate import aggregate, resolution_maps
from diffseg.maps.kl import symmetric_kl
from diffseg.maps.labels import label_map
from diffseg.maps.metastable import count_regions, merge_to
from tests.benchmarks.memory import peak_extra_mib
from tests.diffseg.helpers import record
from tokenrank_guidance.markov import DenseTransition, stationary_distribution

COUNT, PORTION = 256, 16


def elementwise(anchors: Float[Tensor, "a n"], maps: Float[Tensor, "m n"]) -> Float[Tensor, "a m"]:
    """The reference's KL of every pair: log quotients, two products, two sums.

    It takes 16 anchors at once, so the maps' logarithms are made once for each portion; within a portion one
    anchor at a time here, which spares the 4 GiB of the portion's cube and is no slower on a CPU.
    """
    rows = []
    for portion in anchors.split(PORTION):
        logs = torch.log(maps)
        for anchor in portion:
            quotient = torch.log(anchor) - logs
            first, second = (anchor * quotient).sum(-1) / 2, -(maps * quotient).sum(-1) / 2
            rows.append(first + second)
    return torch.stack(rows)


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of all this process's threads: the second does not count other processes."""

    wall: float
    cpu: float


def cost(work: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def medians(name: str, costs: Sequence[Cost], factor: float = 1.0) -> dict[str, float]:
    return {
        f"{name}_s": median(one.wall for one in costs) * factor,
        f"{name}_cpu_s": median(one.cpu for one in costs) * factor,
    }


def chain_64() -> Float[Tensor, "n n"]:
    records = [record((side, side), seed=side, sharpness=4, dtype=torch.float32) for side in (64, 32, 16, 8)]
    return aggregate(resolution_maps(records))[0]


@torch.no_grad()
def divergences(chain: Float[Tensor, "n n"], repeats: int, few: int) -> dict[str, float]:
    """Both ways of computing the KL, timed in turns."""
    anchors = chain[torch.arange(COUNT) * (len(chain) // COUNT)]
    ours, theirs = [], []
    symmetric_kl(anchors, chain)
    for i in range(repeats):
        ours.append(cost(lambda: symmetric_kl(anchors, chain)))
        theirs.append(cost(lambda: elementwise(anchors[:few], chain)))
        print(f"repeat {i + 1}/{repeats}: {ours[-1].wall:.3f} s, {theirs[-1].wall:.1f} s", file=sys.stderr)
    factor = COUNT / few
    pairs = list(zip(ours, theirs, strict=True))
    return {
        **medians("symmetric_kl", ours),
        **medians("elementwise_kl", theirs, factor),
        "times_faster": factor * median(b.wall / a.wall for a, b in pairs),
        "times_faster_cpu": factor * median(b.cpu / a.cpu for a, b in pairs),
    }


@torch.no_grad()
def chain_to_labels(chain: Float[Tensor, "n n"], settings: Settings, repeats: int) -> dict[str, float | None]:
    """All of it, from the chain on."""

    def work() -> object:
        return segment_chain(chain, (64, 64), (512, 512), settings)

    peak = peak_extra_mib(work, chain.device)
    return {**medians("chain_to_labels", [cost(work) for _ in range(repeats)]), "peak_extra_mib": peak}


@torch.no_grad()
def auto_parts(chain: Float[Tensor, "n n"], repeats: int) -> dict[str, float]:
    """What `kl_threshold="auto"` takes, part by part."""
    settings = Settings()
    chosen = segment_chain(chain, (64, 64), (64, 64), settings).anchors
    anchors = chosen[:, 0] * 64 + chosen[:, 1]
    divergence, regions = symmetric_kl(chain[anchors], chain), count_regions(chain)
    transition = DenseTransition.trusted(chain)
    masks = merge_to(chain, divergence, anchors, settings.merges, regions).masks.unflatten(-1, (64, 64))
    parts: dict[str, Callable[[], object]] = {
        "tokenrank": lambda: stationary_distribution(transition, damping=settings.damping),
        "symmetric_kl": lambda: symmetric_kl(chain[anchors], chain),
        "count_regions": lambda: count_regions(chain),
        "merge_to": lambda: merge_to(chain, divergence, anchors, settings.merges, regions),
        "label_map": lambda: label_map(masks, (512, 512)),
    }
    costs = {name: medians(name, [cost(work) for _ in range(repeats)]) for name, work in parts.items()}
    return {name: seconds for each in costs.values() for name, seconds in each.items()}


def measure(repeats: int, few: int) -> Mapping[str, object]:
    chain = chain_64()
    choices = {"fixed": Settings(kl_threshold=0.3), "auto": Settings()}
    results = {name: chain_to_labels(chain, settings, repeats) for name, settings in choices.items()}
    return divergences(chain, repeats, few) | results | {"auto_parts": auto_parts(chain, repeats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--anchors", type=int, default=PORTION, help="of 256, timed element-wise")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options.repeats, options.anchors)
    json.dump({"results": result, "config": vars(options), "torch": torch.__version__}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
