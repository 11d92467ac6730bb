"""What is kept of attention, and at what cost: `python -m tests.benchmarks.peers` prints and saves JSON.

A pass of joint attention of FLUX's size, layer after layer, watched in the ways of other tools and in ours in
one run: seconds beside attention alone, the most memory held at a time, and what is held at the end. The ways
are written anew from what those tools do; none of their code runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from eval.views import Views
from tests.benchmarks.memory import peak_extra_mib
from tests.benchmarks.saving import save_rows, three_digits
from tokenrank_guidance.markdown import markdown_table
from tokenrank_guidance.markov import AttentionTransition, stationary_distribution
from tokenrank_guidance.program import run
from tokenrank_guidance.report import REPORT, Json

FLUX_LAYERS, DAMPING, PUBLISHED_STEPS = 57, 0.99, 200
Heads = Float[Tensor, "heads n dim"]
Kept = list[Tensor]


@dataclass(frozen=True)
class Layer:
    """One layer's queries, keys and values; the first `text` tokens are words."""

    q: Heads
    k: Heads
    v: Heads
    text: int

    @property
    def scale(self) -> float:
        return self.q.shape[-1] ** -0.5

    def attend(self) -> Heads:
        return F.scaled_dot_product_attention(self.q[None], self.k[None], self.v[None])[0]

    def maps(self) -> Float[Tensor, "heads n n"]:
        return (self.q @ self.k.mT * self.scale).softmax(-1)


def attention_alone(layers: Sequence[Layer]) -> Kept:
    """Nothing is watched."""
    for layer in layers:
        layer.attend()
    return []


def every_map(layers: Sequence[Layer]) -> Kept:
    """Every head's map of every layer."""
    return [layer.maps() for layer in layers if layer.attend() is not None]


def one_mixed_map(layers: Sequence[Layer]) -> Kept:
    """The mean over heads and layers of the maps, built, and 200 steps over it at the end (Erel et al.)."""
    mixed = _averaged(layers[0])
    for layer in layers[1:]:
        mixed += _averaged(layer)
    mixed /= len(layers)
    damped = (DAMPING * mixed + (1 - DAMPING) / len(mixed)).T.contiguous()
    rank = damped.new_full((len(damped), 1), 1 / len(damped))
    for _ in range(PUBLISHED_STEPS):
        rank = damped @ rank
        rank = rank / rank.sum()
    return [mixed, rank]


def _averaged(layer: Layer) -> Float[Tensor, "n n"]:
    layer.attend()
    return layer.maps().mean(0)


def words(layers: Sequence[Layer]) -> Kept:
    """What each word gets of each image token, over heads, of every layer (DAAM, arXiv 2210.04885)."""
    kept = []
    for layer in layers:
        layer.attend()
        kept.append(layer.maps()[:, layer.text :, : layer.text].sum(0).T.contiguous())
    return kept


def outputs(layers: Sequence[Layer]) -> Kept:
    """The output vectors of words and image tokens of every layer (ConceptAttention, arXiv 2502.04320)."""
    return [layer.attend() for layer in layers]


def queries_and_keys(layers: Sequence[Layer]) -> Kept:
    """Ours, `layers="all"`: queries and keys of every layer, from which everything else follows."""
    return [
        side for layer in layers if layer.attend() is not None for side in (layer.q.clone(), layer.k.clone())
    ]


def ranks(layers: Sequence[Layer]) -> Kept:
    """Ours: every layer's TokenRank of its heads' mean, as the layers come; no map is built."""
    kept = []
    for layer in layers:
        layer.attend()
        chain = AttentionTransition(layer.q, layer.k, layer.scale)
        even = torch.ones(len(layer.q), device=layer.q.device)
        kept.append(stationary_distribution(chain.mix(even), damping=DAMPING).value)
    return kept


WAYS: dict[str, Callable[[Sequence[Layer]], Kept]] = {
    "attention alone (SDPA)": attention_alone,
    "every map": every_map,
    "one mixed map and the authors' loop": one_mixed_map,
    "DAAM's way: words over the image": words,
    "ConceptAttention's way: output vectors": outputs,
    "ours: queries and keys of all layers": queries_and_keys,
    "ours: TokenRank of each layer, heads' mean": ranks,
}


@dataclass(frozen=True)
class Row:
    """One way over so many layers: median seconds, times attention alone, MiB at most and at the end."""

    way: str
    layers: int
    tokens: int
    threads: int
    seconds: float
    times_attention: float
    peak_mib: float | None
    kept_mib: float


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", nargs="+", type=int, default=[1152, 4608])
    parser.add_argument("--heads", type=int, default=24)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=1, help=f"{FLUX_LAYERS} is a whole pass of FLUX")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--out", type=Path, default=Path("peers_benchmark"))
    options = parser.parse_args(argv)
    rows: list[Row] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for tokens in options.tokens:
            rows += measured(options, tokens, threads)
            save(rows, options)  # each time, so that an interrupted run keeps what it has
    print(f"\nsaved {options.out / REPORT}", file=sys.stderr)


@torch.no_grad()
def measured(options: argparse.Namespace, tokens: int, threads: int) -> list[Row]:
    """Ways take turns in rounds, after one run of each that measures memory."""
    layers = [_layer(options, tokens, seed) for seed in range(options.layers)]
    device = layers[0].q.device
    ways = {name: WAYS[name] for name in WAYS if name in options.ways}
    memory = {name: _memory(way, layers, device) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    alone: list[float] = []
    for _ in range(options.rounds):
        alone.append(_seconds(attention_alone, layers, device))
        for name, way in ways.items():
            times[name].append(_seconds(way, layers, device))
    return [
        Row(
            name,
            len(layers),
            tokens,
            threads,
            median(times[name]),
            median(own / one for own, one in zip(times[name], alone, strict=True)),
            *memory[name],
        )
        for name in ways
    ]


def _layer(options: argparse.Namespace, tokens: int, seed: int) -> Layer:
    g = torch.Generator().manual_seed(seed)
    sides = [torch.randn(options.heads, tokens, options.dim, generator=g) for _ in range(3)]
    q, k, v = (side.to(options.device, getattr(torch, options.dtype)) for side in sides)
    return Layer(q, k, v, text=tokens // 9)  # FLUX at 1024 px: 512 words, 4,096 image tokens


def _memory(
    way: Callable[[Sequence[Layer]], Kept], layers: Sequence[Layer], device: torch.device
) -> tuple[float | None, float]:
    kept: Kept = []
    peak = peak_extra_mib(lambda: kept.extend(way(layers)), device)
    held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in kept}
    return peak, sum(held.values()) / 2**20


def _seconds(way: Callable[[Sequence[Layer]], Kept], layers: Sequence[Layer], device: torch.device) -> float:
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    way(layers)
    synchronize()
    return time.perf_counter() - start


def save(rows: list[Row], options: argparse.Namespace) -> None:
    """The report and its table."""
    print(table(save_rows(rows, options, VIEWS)), flush=True)


def table(report: Json) -> str:
    """A line per way and number of tokens."""
    return markdown_table([_line(row) for row in report["results"]], HEADER)


HEADER = ("layers", "tokens", "threads", "way", "times attention", "MiB at most", "MiB kept")


def _line(row: Json) -> dict[str, Any]:
    peak = row["peak_mib"]
    cells = (
        str(row["layers"]),
        f"{row['tokens']:,}",
        str(row["threads"]),
        row["way"],
        f"{row['times_attention']:.3g}",
        "" if peak is None else f"{max(peak, 0):,.0f}",
        three_digits(row["kept_mib"]),
    )
    return dict(zip(HEADER, cells, strict=True))


VIEWS = Views({"ways": table})


if __name__ == "__main__":
    sys.exit(run(main))
