"""What a warm start saves: `python -m tests.benchmarks.warm_start` prints JSON.

TokenRank of one layer at every step of a sampling run, from the uniform start and from the previous step's
ranks; counted are products with the chain, to the same tolerance.
"""

from __future__ import annotations

import argparse
import json
from statistics import mean

import torch
from torch import Tensor

from tokenrank_guidance.calls import Job, Sampling, call_arguments
from tokenrank_guidance.capture import AttentionRecord, AttentionTap
from tokenrank_guidance.markov import MinimalResidual, PowerIteration, mix_heads, stationary_distribution
from tokenrank_guidance.tiny import available_models, load_pipeline

SOLVERS = {"minimal residual": MinimalResidual(), "power iteration": PowerIteration()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=available_models())
    parser.add_argument("--steps", type=int, nargs="+", default=[24, 50])
    parser.add_argument("--layers", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(model, steps, options.layers, solver)
        for model in options.models
        for steps in options.steps
        for solver in SOLVERS
    ]
    print(json.dumps({"config": vars(options), "torch": torch.__version__, "results": rows}, indent=1))


def measure(model: str, steps: int, layers: str, solver: str) -> dict[str, object]:
    """Mean number of products per sampling step, the first left out, by a cold and by a warm start."""
    chains = [
        mix_heads(record.transition(tokens="image"), "mean") for record in sampled(model, steps, layers)
    ]
    cold, warm, drift, previous = [], [], [], None
    for chain in chains:
        alone = stationary_distribution(chain, solver=SOLVERS[solver])
        if previous is not None:
            result = stationary_distribution(chain, start=previous, solver=SOLVERS[solver])
            cold.append(products(alone.steps))
            warm.append(products(result.steps))
            drift.append(float((alone.value - previous).abs().sum(-1).mean()))
        previous = alone.value
    return {
        "model": model,
        "sampling_steps": steps,
        "solver": solver,
        "tokens": chains[0].n,
        "cold": mean(cold),
        "warm": mean(warm),
        "saved": 1 - mean(warm) / mean(cold),
        "drift_l1": mean(drift),
    }


def products(steps: Tensor) -> float:
    return float(steps.double().mean())


def sampled(model: str, steps: int, layers: str) -> list[AttentionRecord]:
    """The records of every denoiser call of one image that is sampled with classifier-free guidance."""
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    arguments = call_arguments(pipe, Sampling(steps, cfg=4.0), [Job("a photo of a church", 0)])
    tap = AttentionTap(denoiser, layers, keep=None).attach()
    try:
        pipe(**arguments)
        records = tap.pop()
    finally:
        tap.detach()
    # FLUX calls its denoiser twice a step, conditional first.
    return records[:: len(records) // steps]


if __name__ == "__main__":
    main()
