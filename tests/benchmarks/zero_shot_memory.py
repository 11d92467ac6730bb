"""What reading words out of FLUX costs: `python -m tests.benchmarks.zero_shot_memory` prints JSON.

One double and one single block of FLUX.1's width (3,072, 24 heads of 128), random weights, 512 text tokens,
and what `diffseg.zero_shot` does to both while they run: two words, two bounces. Peaks are those of the
denoiser's pass; its weights count in the ratios, those of the text encoders and the autoencoder do not, which
would bring every ratio nearer to 1. The estimate is for all 19 + 38 blocks, of which the default layers
(10 + 10) are read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from diffseg.zero_shot.collect import Job
from diffseg.zero_shot.joint import JointWalks
from diffseg.zero_shot.options import Options
from tests.benchmarks.memory import peak_extra_mib
from tokenrank_guidance.devices import DTYPES

DOUBLE, SINGLE = 19, 38
READ = 20  # layers that are read by default: double blocks 9 to 18, single ones 28 to 37
LAYERS = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn")
BLOCKS = ("transformer_blocks.0", "single_transformer_blocks.0")
TEXT = 512
WORDS = [torch.tensor([2]), torch.tensor([5, 6])]
IMAGES, DRAWS = 4276, 5  # ImageNet-Segmentation, and noise draws of each picture
ARMS: Mapping[str, Mapping[str, Any]] = {
    "unhooked": {},
    "mean": {"head_weights": "mean"},
    "lambda2": {"head_weights": "lambda2"},
    "lambda2, maps held": {"head_weights": "lambda2", "memory": 2**31},
}


@dataclass(frozen=True)
class Cost:
    """Of one pass: MiB above what is held before it, seconds in all and in each block."""

    peak_mib: float
    seconds: float
    blocks: Mapping[str, float]


def flux(dtype: torch.dtype, device: str) -> FluxTransformer2DModel:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model: Any = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=False)
    finally:
        torch.set_default_dtype(before)
    return model.to(device).eval()


def inputs_of(model: FluxTransformer2DModel, side: int) -> dict[str, torch.Tensor]:
    """Random latents of side × side tokens under a random prompt."""
    like: dict[str, Any] = {"device": model.device, "dtype": model.dtype}
    ids = torch.zeros(side, side, 3, device=model.device)
    ids[..., 1], ids[..., 2] = torch.arange(side)[:, None], torch.arange(side)[None]
    return {
        "hidden_states": torch.randn(1, side * side, 64, **like),
        "encoder_hidden_states": torch.randn(1, TEXT, 4096, **like),
        "pooled_projections": torch.randn(1, 768, **like),
        "timestep": torch.full((1,), 0.5, **like),
        "img_ids": ids.view(-1, 3),
        "txt_ids": torch.zeros(TEXT, 3, device=model.device),
    }


@contextmanager
def timed_blocks(model: FluxTransformer2DModel) -> Iterator[dict[str, float]]:
    """Seconds of each block's last call, with what is done to it."""
    spent, handles = {}, []
    for name in BLOCKS:
        block = model.get_submodule(name)

        def begin(*_: object, name: str = name) -> None:
            spent[name] = -clock(model)

        def end(*_: object, name: str = name) -> None:
            spent[name] += clock(model)

        handles += [block.register_forward_pre_hook(begin), block.register_forward_hook(end)]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def clock(model: FluxTransformer2DModel) -> float:
    """Seconds; of this process's work on a CPU, which others may be using too."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@torch.no_grad()
def cost(model: FluxTransformer2DModel, side: int, arm: str) -> Cost:
    inputs = inputs_of(model, side)
    job = Job(SimpleNamespace(transformer=model), ("church", "blue sky"), WORDS)
    job.current.chosen = True
    collector = JointWalks(job, LAYERS, [Options(**ARMS[arm])]) if ARMS[arm] else None
    with timed_blocks(model) as spent, collector.watching() if collector else nullcontext():
        start = clock(model)
        peak = peak_extra_mib(lambda: model(**inputs, return_dict=False), model.device)
        seconds = clock(model) - start
    if collector:
        collector.finish()
    assert peak is not None, "this system does not tell peak memory"
    return Cost(peak, seconds, dict(spent))


def compared(side: int, arm: str, found: Cost, plain: Cost, model: FluxTransformer2DModel) -> dict[str, Any]:
    """Ratios of peaks, here and for all of FLUX, and what it comes to for ImageNet-Segmentation."""
    size = {name: mib(model.get_submodule(name)) for name in BLOCKS}
    here = mib(model)
    whole = here + (DOUBLE - 1) * size[BLOCKS[0]] + (SINGLE - 1) * size[BLOCKS[1]]
    reading = sum(found.blocks.values()) - sum(plain.blocks.values())
    one_pass = DOUBLE * plain.blocks[BLOCKS[0]] + SINGLE * plain.blocks[BLOCKS[1]] + READ * reading / 2
    return {
        "arm": arm,
        "image_tokens": side * side,
        "peak_mib": round(found.peak_mib, 1),
        "ratio_of_these_two_blocks": round((here + found.peak_mib) / (here + plain.peak_mib), 4),
        "ratio_without_any_weights": round(found.peak_mib / plain.peak_mib, 3),
        "ratio_of_all_blocks": round((whole + found.peak_mib) / (whole + plain.peak_mib), 4),
        "seconds_double_block": round(found.blocks[BLOCKS[0]], 2),
        "seconds_single_block": round(found.blocks[BLOCKS[1]], 2),
        "seconds_of_reading_per_layer": round(reading / 2, 2),
        "all_blocks_peak_gib": round((whole + found.peak_mib) / 1024, 1),
        "all_blocks_seconds_per_pass": round(one_pass, 1),
        "imagenet_segmentation_hours": round(IMAGES * DRAWS * one_pass / 3600, 1),
    }


def mib(module: torch.nn.Module) -> float:
    return sum(weight.nbytes for weight in module.parameters()) / 2**20


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    model, rows = flux(DTYPES[options.dtype], options.device), []
    cost(model, 8, "lambda2")  # what is made once is made here
    for side in options.sides:
        costs: dict[str, Cost] = {}
        for arm in ("unhooked", *(one for one in options.arms if one != "unhooked")):
            costs[arm] = cost(model, side, arm)
            rows.append(compared(side, arm, costs[arm], costs["unhooked"], model))
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64], help="image tokens a side")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options)
    json.dump({"results": result, "config": vars(options), "torch": torch.__version__}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
