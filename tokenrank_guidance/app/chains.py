"""Walks, TokenRank and heads of one captured layer, by the library's functions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.app.passes import Captured
from tokenrank_guidance.app.scene import Heat, Scene, Tile
from tokenrank_guidance.app.state import MOST_BOUNCES, State
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import (
    Stationary,
    TransitionOperator,
    mix_heads,
    multi_bounce,
    stationary_distribution,
)
from tokenrank_guidance.markov.heads import HeadWeights, rough_second_eigenvalue
from tokenrank_guidance.messages import counted

Value = TypeVar("Value")
EVEN = "× an even share"
MOST_HELD = 24  # chains, λ2 of steps and the like


class Held:
    """The last few results, each made once; threads that ask for the same wait for one another."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[threading.Lock, list[Any]]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            own, found = self._kept.setdefault(key, (threading.Lock(), []))
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with own:
            if not found:
                found.append(make())
            return found[0]


HELD = Held()


def weights_of(state: State, record: AttentionRecord) -> HeadWeights:
    """What `mix_heads` takes; ValueError for a head that is not there."""
    if state.head is None:
        return "lambda2" if state.heads == "lambda2" else "mean"
    if state.head >= record.heads:
        raise ValueError(f"heads: got {state.heads}, expected a number below {record.heads}, lambda2 or mean")
    return torch.eye(record.heads)[state.head]


def chain_of(captured: Captured, state: State) -> TransitionOperator:
    """The chain over all tokens of the state's layer and step, heads mixed."""
    record = captured.record(state.step, state.layer)
    key = (id(record), state.heads, "all")
    return HELD.get(key, lambda: (record, mix_heads(record, weights_of(state, record))))[1]


def image_chain(captured: Captured, state: State) -> TransitionOperator:
    """The same over the image tokens alone."""
    record = captured.record(state.step, state.layer)

    def mixed() -> tuple[AttentionRecord, TransitionOperator]:
        image = record.restrict("image")
        return record, mix_heads(image, weights_of(state, image))

    return HELD.get((id(record), state.heads, "image"), mixed)[1]


def walk(chain: TransitionOperator, token: int, direction: str) -> Float[Tensor, "n tokens"]:
    """`multi_bounce(chain, token, n, direction)` for n = 1 … 8, in as many steps."""
    step = chain.apply if direction == "outgoing" else chain.apply_incoming
    x = multi_bounce(chain, token, 0)
    found = []
    for _ in range(MOST_BOUNCES):
        x = step(x)
        found.append(x.reshape(chain.n))
    return torch.stack(found)


@torch.no_grad()
def show_walk(captured: Captured, state: State) -> Scene:
    """Where attention leads from the token, or to it, after each number of bounces."""
    record = captured.record(state.step, state.layer)
    chain, (height, width) = chain_of(captured, state), grid_of(record)
    first = record.image.start or 0
    token = places_of(captured, state)[0]
    others = _others(captured, record)
    beside = torch.tensor([one for one, _ in others], dtype=torch.long)
    heats = []
    for n, x in enumerate(walk(chain, token, state.direction).cpu(), 1):
        image = x[record.image]
        note = f"{100 * float(image.sum()):.0f} % on the picture" if record.tokens > height * width else ""
        name = counted(n, "bounce")
        heats.append(Heat.of(name, image.unflatten(0, (height, width)), note, beside=x[beside].numpy()))
    return Scene(
        view=state.view,
        picture=captured.shown,
        title="Where attention leads" if state.direction == "outgoing" else "Who attends here",
        facts=(_place(captured, state), _heads(state)),
        heats=tuple(heats),
        shown=state.n - 1,
        unit=EVEN,
        factor=record.tokens,
        others=others,
        first=first,
        token=token,
        grid=(height, width),
        total=record.tokens,
    )


def places_of(captured: Captured, state: State) -> tuple[int, list[int]]:
    """The token where walks start, by default the picture's middle, and the same place in each kept layer."""
    record = captured.record(state.step, state.layer)
    height, width = grid_of(record)
    middle = (record.image.start or 0) + height // 2 * width + width // 2
    token = middle if state.token is None else state.token
    step = captured.step(state.step)
    return token, [_there(record, captured.records[step, layer], token) for layer in captured.layers]


def rank(captured: Captured, state: State) -> Stationary:
    """The stationary distribution of the image tokens' damped chain, and how it was reached."""
    chain, start = image_chain(captured, state), None
    if state.region:
        if state.region[-1] >= chain.n:
            raise ValueError(f"region: got token {state.region[-1]}, expected some below {chain.n}")
        start = torch.zeros(chain.n)
        start[list(state.region)] = 1
    return stationary_distribution(chain, damping=state.damping, personalization=start)


@torch.no_grad()
def show_rank(captured: Captured, state: State) -> Scene:
    """N·π over the picture, mean 1."""
    grid = grid_of(captured.record(state.step, state.layer))
    found = rank(captured, state)
    steps = int(found.steps.max())
    how = f"{f'{steps} steps' if steps else 'solved directly'}, residual {float(found.residual.max()):.1e}"
    again = f"from {len(state.region)} brushed tokens" if state.region else "from anywhere"
    return Scene(
        view=state.view,
        picture=captured.shown,
        title="Where attention ends up",
        facts=(_place(captured, state), _heads(state), how, f"begins anew {again}"),
        heats=(Heat.of("TokenRank", found.value.reshape(grid)),),
        unit="N·π, mean 1",
        factor=grid[0] * grid[1],
        region=state.region,
        grid=grid,
        total=grid[0] * grid[1],
    )


@torch.no_grad()
def show_heads(captured: Captured, state: State) -> Scene:
    """Each head's own map, the slowest mixing first: of the token's walk, or TokenRank without one."""
    step = captured.step(state.step)
    tiles = []
    for layer in captured.layers:
        record = captured.records[step, layer]
        second = HELD.get((id(record), "lambda2"), lambda record=record: _lambda2(record))[1]
        maps = _of_heads(captured, state, record)
        grid = grid_of(record)
        for head, (value, values) in enumerate(zip(second.tolist(), maps, strict=True)):
            heat = Heat.of(f"head {head}", values.reshape(grid))
            tiles.append(Tile(layer, head, value, heat))
    what = "TokenRank" if state.token is None else f"{counted(state.n, 'bounce')} from the token"
    return Scene(
        view=state.view,
        picture=captured.shown,
        title="Layers × heads, by λ2",
        facts=(f"step {step + 1}" if captured.source.drawn else "one pass", f"each head's own: {what}"),
        tiles=tuple(sorted(tiles, key=lambda tile: -tile.lambda2)),
        grid=grid_of(captured.record(state.step, state.layer)),
    )


def _lambda2(record: AttentionRecord) -> tuple[AttentionRecord, Float[Tensor, " heads"]]:
    return record, rough_second_eigenvalue(record)[0].cpu()


def _of_heads(captured: Captured, state: State, record: AttentionRecord) -> Float[Tensor, "heads tokens"]:
    if state.token is None:
        key = (id(record), "ranks", state.damping)
        image = record.restrict("image")
        return HELD.get(
            key, lambda: (record, stationary_distribution(image, damping=state.damping).value[0])
        )[1]
    token = _there(captured.record(state.step, state.layer), record, state.token)
    direction: Any = state.direction
    return multi_bounce(record, token, state.n, direction)[0][:, record.image]


def _there(record: AttentionRecord, other: AttentionRecord, token: int) -> int:
    """The token of another layer at the same place of the picture; beside the image, of the same number."""
    first, (height, width) = record.image.start or 0, grid_of(record)
    if not 0 <= token - first < height * width:
        return token
    row, column = divmod(token - first, width)
    rows, columns = grid_of(other)
    place = (int((row + 0.5) * rows / height), int((column + 0.5) * columns / width))
    return (other.image.start or 0) + place[0] * columns + place[1]


def grid_of(record: AttentionRecord) -> tuple[int, int]:
    """ValueError where there is none to draw on."""
    if record.plane is None:
        raise ValueError(f"{record.module} has no grid of image tokens to draw on")
    return record.plane


def _others(captured: Captured, record: AttentionRecord) -> tuple[tuple[int, str], ...]:
    found: list[tuple[int, str]] = []
    if record.class_token is not None:
        found.append((record.class_token, "class token"))
    if record.registers is not None:
        span = range(*record.registers.indices(record.tokens))
        found += [(token, f"register {i}") for i, token in enumerate(span)]
    if record.text is not None:
        start = record.text.indices(record.tokens)[0]
        found += [(start + i, text) for i, text in captured.words.items()]
    return tuple(found)


def _place(captured: Captured, state: State) -> str:
    layer = captured.auto if state.layer == "auto" else state.layer
    if not captured.source.drawn:
        return layer
    return f"step {captured.step(state.step) + 1} of {captured.source.steps}, {layer}"


def _heads(state: State) -> str:
    if state.head is not None:
        return f"head {state.head}"
    return "heads weighted by λ2" if state.heads == "lambda2" else "heads' mean"
