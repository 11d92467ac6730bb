"""First uses, each in a process of its own: what `tests.benchmarks.gpu` starts. Prints `name<tab>seconds`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

BEGAN = time.perf_counter()


def told(name: str, work: Callable[[], object], device: str) -> None:
    import torch

    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{name}\t{time.perf_counter() - began:.4f}", flush=True)


def step(device: str, small: bool) -> None:
    """A guided step after an unguided one."""
    import torch

    from tests.benchmarks.gpu_bench import Bench
    from tests.benchmarks.guided_step import Sampling

    print(f"imports\t{time.perf_counter() - BEGAN:.4f}", flush=True)
    from sag import SelfAttentionGuidance

    half = torch.float16 if device == "cuda" else torch.float32
    loop = Sampling(Bench(torch.device(device), small, 0).network(half))
    told("first unguided step", lambda: loop.sample(1), device)
    told("second unguided step", lambda: loop.sample(1), device)
    with SelfAttentionGuidance()(loop):
        told("first guided step", lambda: loop.sample(1), device)
        told("second guided step", lambda: loop.sample(1), device)


def rank(device: str, small: bool) -> None:
    """TokenRank of 64 tokens, nothing having run before on the device but a copy."""
    import torch

    from tokenrank_guidance.markov import AttentionTransition, tokenrank

    print(f"imports\t{time.perf_counter() - BEGAN:.4f}", flush=True)
    q, k = (torch.randn(1, 8, 64, 64).to(device) for _ in range(2))
    told("first TokenRank of 64 tokens", lambda: tokenrank(AttentionTransition(q, k, 0.125)), device)
    told("second", lambda: tokenrank(AttentionTransition(q, k, 0.125)), device)


def _flux(device: str, small: bool, n: int = 4608) -> tuple:
    import torch

    shape = (1, 4, n // 48, 16) if small else (1, 24, n, 128)
    return tuple(torch.randn(shape).to(device, torch.bfloat16) for _ in range(2))


def held(device: str, small: bool) -> None:
    """A first TokenRank per head of FLUX's layer from matrices in memory."""
    from tokenrank_guidance.markov import AttentionTransition, tokenrank

    q, k = _flux(device, small)
    for name in ("first", "second"):
        told(
            f"{name} TokenRank of FLUX's layer",
            lambda: tokenrank(AttentionTransition(q, k, 0.09, memory=4 * 2**30), head_weights=None),
            device,
        )


def flex(device: str, small: bool, dynamic: bool = False) -> None:
    """First products by the fused kernel, at several lengths: these show whether it compiles anew."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    from tokenrank_guidance.markov.fused import FusedProducts

    if device != "cuda":
        print("needs a GPU\t0", flush=True)
        return
    attend = torch.compile(flex_attention, dynamic=True) if dynamic else None
    for n in (4608, 4096, 4608):
        q, k = _flux(device, small, n)
        products = FusedProducts(q, k, 0.09, attend=attend)
        x = torch.full((q.shape[1], 1, q.shape[2]), 1 / n, device=device)
        product = partial(products.left, x)
        told(f"product at {n} tokens", product, device)
        told(f"another at {n} tokens", product, device)


def flex_dynamic(device: str, small: bool) -> None:
    """The same with shapes left open."""
    flex(device, small, dynamic=True)


def compiled(device: str, small: bool) -> None:
    """Guided steps with transformer blocks compiled, after enabling; that of the watched layer is not."""
    import torch

    def transformer_blocks(parts: list) -> list:
        inside = [module for part in parts for module in part.modules()]
        return [module for module in inside if type(module).__name__ == "BasicTransformerBlock"]

    from sag import SelfAttentionGuidance
    from tests.benchmarks.gpu_bench import Bench
    from tests.benchmarks.guided_step import Sampling

    half = torch.float16 if device == "cuda" else torch.float32
    network = Bench(torch.device(device), small, 0).network(half)
    loop = Sampling(network)
    with SelfAttentionGuidance()(loop):
        told("guided step", lambda: loop.sample(1), device)
        told("another", lambda: loop.sample(1), device)
        for block in transformer_blocks([*network.down_blocks, *network.up_blocks]):
            block.compile(backend="eager" if small else "inductor")
        told("first guided step, blocks compiled", lambda: loop.sample(1), device)
        told("second", lambda: loop.sample(1), device)
        told("third", lambda: loop.sample(1), device)


if __name__ == "__main__":
    name, where, tiny = sys.argv[1:]
    work = {
        "step": step,
        "rank": rank,
        "held": held,
        "flex": flex,
        "flex-dynamic": flex_dynamic,
        "compiled": compiled,
    }
    work[name](where, tiny == "1")
