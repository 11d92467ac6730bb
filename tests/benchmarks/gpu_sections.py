"""The sections of `tests.benchmarks.gpu`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from diffseg import DiffSeg
from sag import SelfAttentionGuidance
from sag.mask import salient, score_image
from sag.scorers import TokenRankScorer
from tests.benchmarks.gpu_bench import Bench, mask_of, random_record
from tests.benchmarks.gpu_waits import graphs, syncs
from tests.benchmarks.guided_step import Sampling, layer_overhead, seen_record
from tests.benchmarks.memory import peak_extra_mib
from tests.tiny_models import ddim
from tests.tiny_networks import clip, tokenizer, unet, vae
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import (
    AttentionTransition,
    DenseTransition,
    Direct,
    Eigvals,
    MinimalResidual,
    PowerIteration,
    Squaring,
    deferred_checks,
    lambda2_head_weights,
    solve_second_eigenvalue,
    stationary_distribution,
    tokenrank,
)
from tokenrank_guidance.markov.chunked import ChunkedProducts
from tokenrank_guidance.markov.heads import ROUGH
from tokenrank_guidance.markov.logits import Logits

FORCED = {"direct": Direct(), "minimal residual": MinimalResidual(), "power iteration": PowerIteration()}


@torch.no_grad()
def steps(bench: Bench) -> None:
    """Guided steps against unguided ones, and what capture and scoring take of them."""
    for dtype in bench.precisions:
        network = bench.network(dtype)
        for images in (1, 4):
            name = f"{str(dtype)[6:]}, batch {images}"
            with bench.part(name):
                _step(bench, name, network, images)


def _step(bench: Bench, name: str, network: UNet2DConditionModel, images: int) -> None:
    count = 2 if bench.small else 4
    loop, guidance = Sampling(network, images), SelfAttentionGuidance()
    plain = bench.milliseconds(lambda: loop.sample(count), 3) / count
    bench.add(f"{name}: unguided step", plain)
    record = seen_record(network, images)
    own = bench.milliseconds(lambda: mask_of(record))
    bench.add(f"{name}: map to mask", own)
    with guidance(loop):
        guided = bench.milliseconds(lambda: loop.sample(count), 3) / count
    bench.add(f"{name}: guided step", guided)
    bench.add(f"{name}: guided / unguided", guided / plain, "x")
    caught = 1e3 * layer_overhead(network, bench.device.type, network.dtype, 2 if bench.small else 20)
    bench.add(f"{name}: capture", caught)
    bench.add(f"{name}: capture and scoring / guided step", (caught + own) / guided, "")


@torch.no_grad()
def scoring(bench: Bench) -> None:
    """From a map to a mask, by size; its parts; and each solver on mixed heads and on eight of them."""
    for tokens in bench.sizes(64, 256, 1024, 4096):
        record = random_record(bench, tokens, torch.float32)
        bench.time(f"{tokens}: map to mask, checks later", lambda record=record: mask_of(record))
        bench.time(
            f"{tokens}: map to mask, checks at once",
            lambda record=record: salient(score_image([record], TokenRankScorer()), 1.0),
        )
        bench.time(f"{tokens}: mixing 8 heads", lambda record=record: _mixed(record))
    for tokens in bench.sizes(64, 128, 256, 512, 1024, 2048, 4096):
        record = random_record(bench, tokens, torch.float32)
        mixed, heads = _mixed(record), DenseTransition.trusted(record.maps())
        for title, chain in (("mixed", mixed), ("8 heads", heads)):
            for name, solver in FORCED.items():
                if bench.left > 1 and not (name == "direct" and tokens > 2048):
                    bench.time(
                        f"{tokens}, {title}: {name}",
                        lambda chain=chain, solver=solver: stationary_distribution(chain, solver=solver),
                        0.4,
                    )


def _mixed(record: AttentionRecord) -> Any:
    heads = torch.full((record.heads,), 1 / record.heads, device=record.q.device)
    with deferred_checks():
        return record.transition().mix(heads)


def gradients(bench: Bench) -> None:
    """TokenRank of mixed heads and its derivative with respect to queries and keys."""
    for tokens in bench.sizes(64, 256, 1024):
        record = random_record(bench, tokens, torch.float32)
        q, k = (side.requires_grad_() for side in (record.q, record.k))
        for name in ("direct", "minimal residual"):

            def work(q: Tensor = q, k: Tensor = k, name: str = name) -> None:
                chain = AttentionTransition(q, k, 0.125).mix(torch.ones(8, device=q.device))
                value = stationary_distribution(chain, solver=FORCED[name]).value
                torch.autograd.grad(value[..., 0].sum(), (q, k))

            bench.time(f"{tokens}: value and gradient, {name}", work)


@torch.no_grad()
def second_eigenvalues(bench: Bench) -> None:
    """Of eight heads: iterated, by LAPACK on the host, by the device's library, and by repeated squaring."""
    for tokens in bench.sizes(64, 256, 1024):
        chain = DenseTransition.trusted(random_record(bench, tokens, torch.float32).maps())
        ways: dict[str, Callable[[], object]] = {
            "default": lambda chain=chain: lambda2_head_weights(chain),
            "Arnoldi": lambda chain=chain: solve_second_eigenvalue(chain, ROUGH),
            "squaring": lambda chain=chain: solve_second_eigenvalue(chain, Squaring()),
        }
        if tokens <= 256:
            ways["Eigvals"] = lambda chain=chain: solve_second_eigenvalue(chain, Eigvals())
            ways["torch.linalg.eigvals"] = lambda chain=chain: torch.linalg.eigvals(chain.to_dense())
        for name, work in ways.items():
            bench.time(f"{tokens}: {name}", work, 1.0)
        if tokens <= 256:
            exact = torch.linalg.eigvals(chain.to_dense().double().cpu()).abs().sort(-1).values[..., -2]
            found = solve_second_eigenvalue(chain, Squaring()).value.cpu().double()
            bench.add(f"{tokens}: error of squaring", float((found - exact).abs().max()), "")


@torch.no_grad()
def flux(bench: Bench) -> None:
    """FLUX's layer: 24 heads of 4,608 tokens of 128 numbers, in bfloat16."""
    shape = (1, 4, 96, 16) if bench.small else (1, 24, 4608, 128)
    g = torch.Generator().manual_seed(0)
    q, k, v = (1.3 * torch.randn(shape, generator=g).to(bench.device, torch.bfloat16) for _ in range(3))
    scale, n = shape[-1] ** -0.5, shape[-2]
    x, even = torch.full((n,), 1 / n, device=bench.device), torch.ones(shape[1], device=bench.device)
    bench.time("SDPA", lambda: F.scaled_dot_product_attention(q, k, v))
    held = 2 * shape[1] * n * n * 4

    def fresh() -> AttentionTransition:
        return AttentionTransition(q, k, scale, memory=held)

    chain, chunked = fresh(), ChunkedProducts(Logits(q, k, scale))
    few = x.expand(shape[1], 1, n)
    bench.time("chunked: a bounce", lambda: chunked.left(few))
    bench.time("held: matrices and a bounce", lambda: fresh().apply(x))
    bench.time("held: a bounce", lambda: chain.apply(x))
    bench.time("held: matrices and TokenRank per head", lambda: tokenrank(fresh(), head_weights=None))
    bench.time("held: TokenRank per head", lambda: tokenrank(chain, head_weights=None))
    bench.add("TokenRank per head, steps", int(stationary_distribution(chain).steps.max()), "")
    bench.time("mixture made", lambda: AttentionTransition(q, k, scale).mix(even))
    bench.time("TokenRank mixed, from q and k", lambda: tokenrank(AttentionTransition(q, k, scale)))
    bench.time("held: matrices and lambda2 weights", lambda: lambda2_head_weights(fresh()), 3)
    bench.time("held: lambda2 weights", lambda: lambda2_head_weights(chain), 3)
    del chain
    for what, work in {
        "held: TokenRank per head": lambda: tokenrank(fresh(), head_weights=None),
        "TokenRank mixed": lambda: tokenrank(AttentionTransition(q, k, scale)),
        "chunked: a bounce": lambda: ChunkedProducts(Logits(q, k, scale)).left(few),
    }.items():
        peak = peak_extra_mib(work, bench.device)
        bench.add(f"peak memory, {what}", "unknown" if peak is None else peak, "MiB")


def first_use(bench: Bench) -> None:
    """In fresh processes: seconds to import, to the first guided step, and to a first ranking."""
    for what in ("step", "rank", "held"):
        _fresh(bench, [what], 40)


def compiling(bench: Bench) -> None:
    """In fresh processes, side by side: first products by the fused kernel; a compiled UNet guided."""
    _fresh(bench, ["flex", "flex-dynamic", "compiled"], bench.left)


def _fresh(bench: Bench, names: Sequence[str], most: float) -> None:
    """The lines `what<tab>seconds` that `tests.benchmarks.gpu_first` prints, those before a time-out too."""
    ends = time.perf_counter() + max(1.0, min(most, bench.left))
    program = [sys.executable, "-u", "-m", "tests.benchmarks.gpu_first"]
    started = [
        subprocess.Popen(
            [*program, name, str(bench.device), str(int(bench.small))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for name, process in zip(names, started, strict=True):
        try:
            out, errors = process.communicate(timeout=max(0.1, ends - time.perf_counter()))
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            errors += f"\nstopped after {most:.0f} s"
        for line in out.splitlines():
            what, _, value = line.partition("\t")
            if value:
                bench.add(f"{name}: {what}", float(value), "s")
        if process.returncode:
            bench.add(f"{name}: failed", (errors.strip().splitlines() or ["no word"])[-1][:200], "")


@torch.no_grad()
def segmentation(bench: Bench) -> None:
    """DiffSeg of a picture by a UNet of Stable Diffusion 1.5's size, 64×64 latents; a tiny autoencoder."""
    dtype = torch.float32 if bench.device.type == "cpu" else torch.float16
    torch.manual_seed(0)
    parts = (vae(), clip(), tokenizer(77))
    if bench.small:
        network = unet()
    else:
        with torch.device(bench.device):
            network = UNet2DConditionModel(cross_attention_dim=16)
    pipe: Any = StableDiffusionPipeline(
        *parts, network, ddim(), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipe.to(bench.device, dtype)
    segmenter = DiffSeg.from_pipe(pipe, resolution=32 if bench.small else 128)  # its autoencoder halves sides
    g = torch.Generator().manual_seed(0)
    picture = F.interpolate(torch.rand(1, 3, 6, 6, generator=g), 512, mode="bilinear")[0]
    began = time.perf_counter()
    labels = segmenter(picture).labels
    bench.add("DiffSeg, first picture", 1e3 * (time.perf_counter() - began))
    bench.time("DiffSeg, a picture", lambda: segmenter(picture), 8)
    bench.add("DiffSeg, segments", int(labels.max()) + 1, "")
    peak = peak_extra_mib(lambda: segmenter(picture), bench.device)
    bench.add("DiffSeg, peak memory", "unknown" if peak is None else peak, "MiB")


@dataclass(frozen=True)
class Section:
    """What runs, in at most how many seconds, and how many must be left for it to begin."""

    run: Callable[[Bench], None]
    seconds: float
    least: float = 3.0


SECTIONS: dict[str, Section] = {
    "steps": Section(steps, 40),
    "scoring": Section(scoring, 30),
    "syncs": Section(syncs, 10),
    "graphs": Section(graphs, 10),
    "gradients": Section(gradients, 10),
    "eigenvalues": Section(second_eigenvalues, 15),
    "flux": Section(flux, 30),
    "diffseg": Section(segmentation, 15),
    "first": Section(first_use, 60, 15),
    "compiling": Section(compiling, 90, 20),
}
