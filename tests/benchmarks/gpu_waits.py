"""Sections of `tests.benchmarks.gpu`: how often the host waits for the device, and CUDA graphs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from sag import SelfAttentionGuidance
from tests.benchmarks.gpu_bench import Bench, mask_of, random_record
from tests.benchmarks.guided_step import Sampling
from tokenrank_guidance.capture import AttentionTap


@torch.no_grad()
def syncs(bench: Bench) -> None:
    """How often the host waits from the map to the mask, by size and head weights."""
    if bench.device.type != "cuda":
        bench.add("host syncs", "needs a GPU", "")
        return
    for dtype in (torch.float16, torch.float32):
        for tokens in (64, 256, 1024):
            record = random_record(bench, tokens, dtype)
            for weights in ("mean", "lambda2"):
                name = f"{tokens}, {weights}, {str(dtype)[6:]}"
                with bench.part(name):
                    mask_of(record, weights)
                    found = _syncs(lambda record=record, weights=weights: mask_of(record, weights))
                    bench.add(f"{name}: host syncs, map to mask", len(found), "")
                    for line in dict.fromkeys(found[:4]):
                        bench.add(f"{name}: at", line, "")
    loop = Sampling(bench.network(torch.float16))
    with SelfAttentionGuidance()(loop):
        loop.sample(3)
        bench.add("host syncs in three guided steps", len(_syncs(lambda: loop.sample(3))), "")
    bench.add("host syncs in three unguided steps", len(_syncs(lambda: loop.sample(3))), "")


def _syncs(work: Callable[[], object]) -> list[str]:
    """Where in the code each sync was."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [one for one in caught if "synchroniz" in str(one.message)]
    return [f"{os.path.basename(one.filename)}:{one.lineno}" for one in found]


@torch.no_grad()
def graphs(bench: Bench) -> None:
    """Whether map to mask, and a step with its capture, can be made a CUDA graph; how long a replay takes."""
    if bench.device.type != "cuda":
        bench.add("CUDA graph", "needs a GPU", "")
        return
    for tokens in (64, 256, 512):
        record = random_record(bench, tokens, torch.float16)
        with bench.part(f"{tokens} tokens, map to mask"):
            _graph(bench, f"{tokens} tokens, map to mask", lambda record=record: mask_of(record))
    network = bench.network(torch.float16)
    latents = torch.randn(2, 4, 64, 64, device=bench.device, dtype=torch.float16)
    text = torch.randn(2, 77, 768, device=bench.device, dtype=torch.float16)
    t = torch.tensor(500, device=bench.device)
    tap = AttentionTap(network).attach()

    def step() -> Tensor:
        network(latents, t, encoder_hidden_states=text)
        return mask_of(tap.pop()[0].select(slice(1)))

    with bench.part("UNet pass, capture, mask"):
        _graph(bench, "UNet pass, capture, mask", step)
    tap.detach()
    bench.time("UNet pass without a graph", lambda: network(latents, t, encoder_hidden_states=text))


def _graph(bench: Bench, what: str, work: Callable[[], Tensor]) -> None:
    expected = work()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mask = work()
    bench.time(f"{what}: replay", graph.replay)
    bench.add(f"{what}: replay gives the same mask", str(bool((mask == expected).all())), "")
