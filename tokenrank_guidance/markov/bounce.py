"""Where attention leads in a few steps."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.checks import is_whole
from tokenrank_guidance.markov.coerce import Maps
from tokenrank_guidance.markov.distribution import as_distribution, as_values
from tokenrank_guidance.markov.heads import HeadWeights, mix_heads
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.parts import in_parts
from tokenrank_guidance.markov.shapes import broadcast_shapes, broadcasts

Direction = Literal["outgoing", "incoming"]


def multi_bounce(
    maps: Maps,
    start: int | Int[Tensor, "*start"] | Float[Tensor, "*start tokens"] | Bool[Tensor, "*start tokens"],
    n: int = 2,
    direction: Direction = "outgoing",
    head_weights: HeadWeights = None,
) -> Float[Tensor, "*batch tokens"]:
    """Distribution over tokens after ``n`` steps of the undamped chain, ``start @ P^n``.

    ``start`` is a token index, an integer tensor of them, or weights or a mask ``(..., tokens)``, normalised;
    leading axes broadcast with the batch. ``n=1`` is row select, or with ``direction="incoming"`` (``P_in``,
    the column-normalised transpose) column select; ``n=0`` is the start. ``head_weights`` mixes heads before
    the walk, as `mix_heads` does; ``None`` lets each head walk alone. ``ValueError`` for any other input.
    Source: arXiv 2507.17657 (multi-bounce attention).
    """
    if direction not in ("outgoing", "incoming"):
        raise ValueError(f"direction: got {direction!r}, expected 'outgoing' or 'incoming'")
    if not is_whole(n, 0):
        raise ValueError(f"n: got {n!r} bounces, expected 0 or more")
    operator = mix_heads(maps, head_weights)
    x = _start_distribution(start, operator)
    x = x.expand(*broadcast_shapes(x.shape[:-1], operator.batch_shape), operator.n)

    def walk(part: TransitionOperator, x: Float[Tensor, "*own tokens"]) -> Float[Tensor, "*own tokens"]:
        for _ in range(n):
            x = part.apply(x) if direction == "outgoing" else part.apply_incoming(x)
        return x

    return walk(operator, x) if n <= 1 else in_parts(operator, walk, x)


def _start_distribution(start: Any, operator: TransitionOperator) -> Float[Tensor, "..."]:
    start = as_values(start, "start")
    if start.is_floating_point() or start.dtype == torch.bool:
        return as_distribution(start, operator, "start")
    if start.numel() == 0 or not broadcasts(start.shape, operator.batch_shape):
        raise ValueError(
            f"start: indices of shape {tuple(start.shape)}, expected a shape that broadcasts with the "
            f"chain's batch {operator.batch_shape}"
        )
    low, high = torch.stack(start.aminmax()).tolist()
    if low < 0 or high >= operator.n:
        raise ValueError(f"start: token {low if low < 0 else high} is not in [0, {operator.n - 1}]")
    tokens = torch.arange(operator.n, device=operator.device)
    return (start.to(operator.device).unsqueeze(-1) == tokens).to(operator.dtype)
