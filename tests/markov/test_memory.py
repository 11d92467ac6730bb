"""Peak memory of chains from queries and keys, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tokenrank_guidance.markov import logits
from tokenrank_guidance.markov.chunked import ChunkedProducts
from tokenrank_guidance.markov.logits import Logits

SCRIPT = """
import torch
torch.set_num_threads(1)
from tests.benchmarks.memory import peak_extra_mib
{imports}

def inputs(*shape):
    g = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=g), torch.randn(*shape, generator=g)

{setup}
print("MiB", peak_extra_mib(lambda: {work}, torch.device("cpu")))
"""


def peak_mib(imports, setup, work):
    script = SCRIPT.format(imports=imports, setup=setup, work=work)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    answer = done.stdout.split("MiB")[-1].strip()
    if answer == "None":
        pytest.skip("the system does not tell peak memory")
    return float(answer)


@pytest.mark.extended
def test_16384_tokens_where_the_matrix_would_be_1_gib():
    """A pass for the row normalisers and a bounce more."""
    peak = peak_mib(
        "from tokenrank_guidance.markov import AttentionTransition",
        "q, k = inputs(16384, 64)\nx = torch.rand(16384)\n"
        "AttentionTransition(q[:64], k[:64], 0.125).apply(x[:64])",
        "AttentionTransition(q, k, 0.125).apply(AttentionTransition(q, k, 0.125).apply(x))",
    )
    assert peak <= 96


@pytest.mark.extended
@pytest.mark.parametrize("images", [1, 2, 3])
def test_scoring_a_guided_step(images):
    """The finest self-attention layer of an SD-1.5-sized UNet at 512 px, whose maps are half a GiB an image.

    One mixed chain takes 64 MiB; two are held together, and any others after them.
    """
    peak = peak_mib(
        "from sag import TokenRankScorer\nfrom tokenrank_guidance.capture import AttentionRecord",
        f"q, k = inputs({images}, 8, 4096, 40)\n"
        "record = AttentionRecord(q=q, k=k, scale=40**-0.5, grid=(64, 64))\n"
        "small = AttentionRecord(q=q[:, :, :64], k=k[:, :, :64], scale=40**-0.5, grid=(8, 8))\n"
        "TokenRankScorer()(small)",
        "TokenRankScorer()(record)",
    )
    assert peak <= (112 if images == 1 else 192)


class Kernels(TorchDispatchMode):
    """Counts what is launched; views are not."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mixed", [False, True])
def test_few_kernels_make_the_maps_of_flux_on_a_gpu(mixed, monkeypatch):
    """24 heads of 4,608 tokens on a GPU of 80 GiB: a hundred launches, of which each takes some µs."""
    monkeypatch.setattr(logits, "chunk_bytes", lambda device: 80 * 2**30 // logits.CHUNK_SHARE)
    monkeypatch.setattr(logits, "_bound", lambda q, k, scale: torch.tensor(1.0))  # values are read of it
    q, k = (torch.empty(24, 4608, 128, device="meta") for _ in range(2))
    with Kernels() as kernels, torch.no_grad():
        products = ChunkedProducts(Logits(q, k, 0.1))
        made = products.mixed(torch.empty(1, 24, device="meta")) if mixed else products.matrix(torch.float32)
    assert made.shape == (1 if mixed else 24, 4608, 4608)
    assert kernels.count <= 110


def test_chunks_on_a_gpu_are_a_part_of_its_memory(monkeypatch):
    for gib, mib in ((80, 320), (24, 96), (4, 32)):
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda device, gib=gib: SimpleNamespace(total_memory=gib * 2**30),
        )
        assert logits.chunk_bytes(torch.device("cuda")) == mib * 2**20
