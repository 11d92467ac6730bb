"""What makes a training step quick: numbers that the device is quick at, and a compiled network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tokenrank_guidance.devices import SLOW, slowness
from tokenrank_guidance.messages import say
from tokenrank_guidance.tiny.objective import Objective


def on_gpu(device: str | torch.device) -> bool:
    """Whether `device` is one of CUDA's, whichever its index."""
    return torch.device(device).type == "cuda"


def mixed_precision(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Blocks in which products are taken in bfloat16, unless that is slower: CPUs without it need ten times
    as long as in float32."""
    if slowness(torch.bfloat16, device.type) > SLOW:
        return nullcontext
    return partial(torch.autocast, device.type, torch.bfloat16)


@contextmanager
def quick_numbers(device: str) -> Iterator[None]:
    """In the block, on CUDA: TF32 products, convolutions by the clock, and no attention by cuDNN.

    That ended in an illegal memory access in these models' backward pass (torch 2.11).
    """
    if not on_gpu(device):
        yield
        return
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    before = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cuda.cudnn_sdp_enabled()
    _set(tf32=True, tf32_convolutions=True, benchmark=True, attention=False)
    try:
        yield
    finally:
        _set(*before)


def _set(tf32: bool, tf32_convolutions: bool, benchmark: bool, attention: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32_convolutions
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cuda.enable_cudnn_sdp(attention)


def compile_network(objective: Objective, trial: Callable[[], Tensor]) -> None:
    """Compile the objective's network if one forward and backward pass of `trial` works so; else say why not.

    The pass leaves nothing behind: its gradients are dropped.
    """
    plain, began = objective.network, time.monotonic()
    try:
        objective.network = torch.compile(plain)
        trial().backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a kernel that fails does so now, not in the first step
        say(f"compiled in {time.monotonic() - began:.0f} s")
    except Exception as error:  # the compilers behind it stumble over anything
        objective.network = plain
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        say(f"training goes on without torch.compile, which failed: {type(error).__name__}: {reason}")
    for module in objective.modules.values():
        module.zero_grad(set_to_none=True)
