"""TokenRank of a video's tokens, whole and strided: `python -m tests.benchmarks.video_rank` prints JSON.

Queries and keys are smooth random fields over frames, rows and columns, with noise of their own: tokens near
one another attend alike, as a denoiser's do. There is less or more noise, and softer or sharper attention.
The embedded models' own attention, which is trained, has one frame. Grids are those of video families in
thirds: Wan's of 480p is 21×30×52, as `--grid 21 30 52` takes it at its full length.

Of each stride: the mean |difference| of scores, which have mean 1 (`spread` is their mean |difference| from
that), the overlap (intersection over union) of the masks of tokens above 1, and the seconds. Peak memory is
what is held beyond queries and keys. `--steps` ends the walk early, where memory alone is asked.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sag.strided import strided_score
from tests.benchmarks.memory import peak_extra_mib
from tokenrank_guidance import AttentionRecord, capture, tokenrank_score
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.markov import MinimalResidual, mix_heads, stationary_distribution
from tokenrank_guidance.tiny.loader import load_pipeline

GRIDS = {
    "full: Wan, LTX, Allegro, Cosmos": (7, 10, 17),
    "joint: CogVideoX, HunyuanVideo, Mochi": (5, 10, 15),
    "factorised: Latte, AnimateDiff, SVD": (8, 16, 16),
}
KINDS = {"smooth and soft": (0.25, 1.0), "noisy and sharp": (0.5, 2.0)}  # share of noise, sharpness
STRIDES, HEADS, DIM, SMOOTH = (2, 3, 4), 2, 32, 3
EMBEDDED = ("tiny-sd", "tiny-flux")


def field(grid: tuple[int, int, int], noise: float, generator: torch.Generator) -> Tensor:
    """(1, heads, t·h·w, dim): noise, and noise of a third of the sides, interpolated."""
    coarse = [-(-side // SMOOTH) for side in grid]
    smooth = F.interpolate(torch.randn(HEADS, DIM, *coarse, generator=generator), grid, mode="trilinear")
    values = smooth / smooth.std() + noise * torch.randn(HEADS, DIM, *grid, generator=generator)
    return values.flatten(2).mT[None]


def record(
    grid: tuple[int, int, int], kind: str = "noisy and sharp", factorised: bool = False
) -> AttentionRecord:
    generator, (noise, sharpness) = torch.Generator().manual_seed(0), KINDS[kind]
    q, k = (field(grid, noise, generator) for _ in range(2))
    whole = AttentionRecord(q, k + q / 2, sharpness / DIM**0.5, grid=grid)
    if not factorised:
        return whole
    q, k = (side[0].unflatten(1, (grid[0], -1)).transpose(0, 1) for side in (whole.q, whole.k))
    return replace(whole, q=q, k=k, grid=grid[1:], frames=grid[0])


def trained(name: str) -> AttentionRecord:
    """An embedded model's own layer, in the middle of drawing a picture."""
    pipe: Any = load_pipeline(name)
    pipe.set_progress_bar_config(disable=True)
    with capture(denoiser_of(pipe), keep=None) as maps:
        pipe("a photo of a church", num_inference_steps=9, generator=torch.Generator().manual_seed(0))
    return maps[len(maps) // 2].select(0).restrict("image")


def measured(work: Callable[[], Tensor]) -> tuple[Tensor, float, float | None]:
    """What it gives, its seconds, and the MiB that it holds at most."""
    made: list[Any] = []

    def run() -> None:
        start = time.perf_counter()
        made.append(work())
        made.append(time.perf_counter() - start)

    peak = peak_extra_mib(run, torch.device("cpu"))
    return made[0], made[1], peak


def compared(whole: Tensor, part: Tensor) -> dict[str, float]:
    """Both with mean 1."""
    first, second = whole > 1, part > 1
    overlap = (first & second).sum() / (first | second).sum()
    return {"l1": (whole - part).abs().mean().item(), "mask_overlap": overlap.item()}


def errors(one: AttentionRecord) -> dict[str, Any]:
    attention = measured(lambda: F.scaled_dot_product_attention(one.q, one.k, one.k, scale=one.scale))
    whole = measured(lambda: tokenrank_score(one))
    strides = {}
    for stride in STRIDES:
        part = measured(lambda stride=stride: strided_score(one, stride, 0.99, "mean"))
        strides[stride] = compared(whole[0], part[0]) | {"seconds": part[1], "peak_mib": part[2]}
    return {
        "tokens": one.tokens,
        "spread": (whole[0] - 1).abs().mean().item(),
        "attention_seconds": attention[1],
        "seconds": whole[1],
        "peak_mib": whole[2],
        "strides": strides,
    }


def memory(grid: tuple[int, int, int], steps: int) -> dict[str, Any]:
    """Of a walk of so many steps, from Q and K of one head alone."""
    one = record(grid)
    one = replace(one, q=one.q[:, :1], k=one.k[:, :1])
    solver = MinimalResidual(max_steps=steps, raise_on_failure=False)

    def rank() -> Tensor:
        return stationary_distribution(mix_heads(one.transition(), "mean"), solver=solver).value

    _, seconds, peak = measured(rank)
    square = one.tokens**2 * 4 / 2**20
    return {"tokens": one.tokens, "steps": steps, "seconds": seconds, "peak_mib": peak, "matrix_mib": square}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=int, nargs=3, metavar="N", help="of one chain alone")
    parser.add_argument("--steps", type=int, metavar="N", help="of the walk, for its memory alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    grids = {"asked": tuple(given.grid)} if given.grid else GRIDS
    with torch.no_grad():
        if given.steps:
            found: Any = {name: memory(grid, given.steps) for name, grid in grids.items()}
        else:
            found = {
                f"{name}, {kind}": errors(record(grid, kind, "factorised" in name))
                for name, grid in grids.items()
                for kind in KINDS
            }
            found |= {} if given.grid else {name: errors(trained(name)) for name in EMBEDDED}
    print(json.dumps({"heads": HEADS, "dim": DIM, "threads": 1, "chains": found}, indent=2))


if __name__ == "__main__":
    main()
