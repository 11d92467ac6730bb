"""What guidance costs: `python -m tests.benchmarks.guided_step` prints JSON.

A randomly initialised UNet of Stable Diffusion 1.5's size at 512 px (64×64 latents), with classifier-free
guidance, the middle block's attention. Ratios are medians of pairs timed one after the other in this run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from sag import SelfAttentionGuidance
from sag.mask import salient, score_image
from tokenrank_guidance.capture import AttentionTap


def seconds(work: Callable[[], object], device: str) -> float:
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def stable_diffusion_unet(device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(cross_attention_dim=768).eval().to(device, dtype)


def layer_overhead(unet: UNet2DConditionModel, device: str, dtype: torch.dtype, runs: int) -> float:
    """Seconds that capturing adds to the middle attention layer: medians with and without, side by side."""
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    states = torch.randn(2, 64, 1280, device=device, dtype=dtype)
    tap = AttentionTap(unet)
    plain, watched = [], []
    for _ in range(runs):
        plain.append(seconds(lambda: layer(states), device))
        tap.attach()
        watched.append(seconds(lambda: layer(states), device))
        tap.detach()
    return max(0.0, median(watched) - median(plain))


@torch.no_grad()
def measure(pairs: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    unet = stable_diffusion_unet(device, dtype)
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.set_timesteps(50)
    pipe = SimpleNamespace(unet=unet, scheduler=scheduler, do_classifier_free_guidance=True)
    latents = torch.randn(1, 4, 64, 64, device=device, dtype=dtype)
    text = torch.randn(2, 77, 768, device=device, dtype=dtype)
    guidance = SelfAttentionGuidance()

    def step() -> None:
        unet(torch.cat([latents] * 2), scheduler.timesteps[10], encoder_hidden_states=text)

    step()
    unguided, guided = [], []
    for i in range(pairs):
        unguided.append(seconds(step, device))
        with guidance(pipe):
            guided.append(seconds(step, device))
        print(f"pair {i + 1}/{pairs}: {unguided[-1]:.2f} s, {guided[-1]:.2f} s", file=sys.stderr)
    tap = AttentionTap(unet).attach()
    step()
    tap.detach()
    record = tap.pop()[0].select(slice(1))
    score = [seconds(lambda: salient(score_image([record], guidance.score), 1.0), device) for _ in range(20)]
    own = layer_overhead(unet, device, dtype, 20) + median(score)
    ratios = [b / a for a, b in zip(unguided, guided, strict=True)]
    return {
        "unguided_step_s": median(unguided),
        "guided_step_s": median(guided),
        "guided_over_unguided": median(ratios),
        "scoring_s": median(score),
        "capture_and_scoring_s": own,
        "capture_and_scoring_share_of_guided_step": own / median(guided),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    options = parser.parse_args()
    result = measure(options.pairs, options.device, getattr(torch, options.dtype))
    json.dump({"results": result, "config": vars(options), "torch": torch.__version__}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
