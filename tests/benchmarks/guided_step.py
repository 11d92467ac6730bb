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

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from sag import SelfAttentionGuidance
from sag.mask import salient, score_image
from tokenrank_guidance.capture import AttentionRecord, AttentionTap


def seconds(work: Callable[[], object], device: str) -> float:
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def stable_diffusion_unet(device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    torch.manual_seed(0)
    with torch.device(device):  # a device draws its numbers faster
        return UNet2DConditionModel(cross_attention_dim=768).eval().to(dtype)


def layer_overhead(unet: UNet2DConditionModel, device: str, dtype: torch.dtype, runs: int) -> float:
    """Seconds that capturing adds to the middle attention layer: medians with and without, side by side."""
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    states = torch.randn(2, 64, layer.to_q.in_features, device=device, dtype=dtype)
    tap = AttentionTap(unet)
    plain, watched = [], []
    for _ in range(runs):
        plain.append(seconds(lambda: layer(states), device))
        tap.attach()
        watched.append(seconds(lambda: layer(states), device))
        tap.detach()
    return max(0.0, median(watched) - median(plain))


class Sampling:
    """Stable Diffusion's loop over random text, for guidance to be enabled on."""

    do_classifier_free_guidance = True

    def __init__(self, unet: UNet2DConditionModel, images: int = 1) -> None:
        self.unet = unet
        self.scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
        like, size = {"device": unet.device, "dtype": unet.dtype}, unet.config["sample_size"]
        self._latents = torch.randn(images, 4, size, size, **like)
        self._text = torch.randn(2 * images, 77, unet.config["cross_attention_dim"], **like)

    @torch.no_grad()
    def sample(self, steps: int) -> torch.Tensor:
        self.scheduler.set_timesteps(steps)
        latents = self._latents
        for t in self.scheduler.timesteps:
            batch = torch.cat([latents] * 2)
            unconditional, prompted = self.unet(batch, t, encoder_hidden_states=self._text).sample.chunk(2)
            noise = unconditional + 7.5 * (prompted - unconditional)
            latents = self.scheduler.step(noise, t, latents).prev_sample
        return latents


@torch.no_grad()
def seen_record(unet: UNet2DConditionModel, images: int = 1) -> AttentionRecord:
    """What guidance ranks in a step: the middle layer's unconditional half."""
    tap = AttentionTap(unet).attach()
    Sampling(unet, images).sample(1)
    tap.detach()
    return tap.pop()[0].select(slice(images))


@torch.no_grad()
def measure(pairs: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    unet = stable_diffusion_unet(device, dtype)
    loop, guidance = Sampling(unet), SelfAttentionGuidance()

    def step() -> None:
        loop.sample(1)

    step()
    unguided, guided = [], []
    for i in range(pairs):
        unguided.append(seconds(step, device))
        with guidance(loop):
            guided.append(seconds(step, device))
        print(f"pair {i + 1}/{pairs}: {unguided[-1]:.2f} s, {guided[-1]:.2f} s", file=sys.stderr)
    record = seen_record(unet)
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
