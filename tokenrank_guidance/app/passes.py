"""One source's attention: what a model looked at while it drew a picture, or read one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from PIL import Image

from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.images import read_images
from diffseg.settings import Settings
from diffseg.words import text_readers
from tokenrank_guidance.app.models import Opened
from tokenrank_guidance.app.state import Source, State
from tokenrank_guidance.app.watching import Watch
from tokenrank_guidance.calls import Arguments, Job, Sampling, call_arguments, finite_pictures, jobs_for
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.capture.layers import choose_layers
from tokenrank_guidance.families.registry import prompt_row, reads_text, tokens_of, words_of
from tokenrank_guidance.files.pictures import to_rgb


@dataclass(frozen=True, eq=False)
class Captured:
    """A picture and its attention under the prompt: one record of one row by (step, layer).

    `picture` is in its own mode, `shown` is RGB. `calls`: which call of the network each kept step was,
    counted from 0. `auto`: the default layer. `words`: what the text tokens are called, where they share the
    map, counted from the first of them.
    """

    opened: Opened
    source: Source
    picture: Image.Image
    records: dict[tuple[int, str], AttentionRecord]
    calls: dict[int, int]
    auto: str
    words: dict[int, str] = field(default_factory=dict)

    @cached_property
    def shown(self) -> Image.Image:
        """The picture as the page has it."""
        return to_rgb(self.picture)

    @property
    def steps(self) -> list[int]:
        """The kept steps, in order."""
        return sorted(self.calls)

    @property
    def layers(self) -> list[str]:
        """The kept layers, in running order."""
        return list(dict.fromkeys(layer for _, layer in self.records))

    @property
    def bytes(self) -> int:
        """What the queries and keys take."""
        return sum(_bytes(record) for record in self.records.values())

    def step(self, asked: int | None) -> int:
        """A kept step: the middle one by default; ValueError for one that is not kept."""
        if asked is None:
            return self.steps[len(self.steps) // 2]
        if asked not in self.calls:
            kept = ", ".join(map(str, self.steps))
            raise ValueError(f"step: got {asked}, expected one whose attention is kept: {kept}")
        return asked

    def fitting(self, state: State) -> State:
        """Without marks outside this layer's tokens; words begin with the prompt's last."""
        record, changes = self.record(state.step, state.layer), {}
        if state.token is not None and state.token >= record.tokens:
            changes["token"] = None
        if state.region and state.region[-1] >= record.restrict("image").tokens:
            changes["region"] = ()
        if state.head is not None and state.head >= record.heads:
            changes["heads"] = "lambda2"
        if state.view == "words" and not state.words and self.source.drawn:
            changes["words"] = (self.source.prompt.split() or [""])[-1].strip(".,")
        return state.of(**changes)

    def record(self, step: int | None, layer: str) -> AttentionRecord:
        """ValueError for a layer that is not there or not kept."""
        name = self.auto if layer == "auto" else layer
        if name not in self.layers:
            raise ValueError(f"layer: got {name!r}, expected auto or one of {', '.join(self.layers)}")
        return self.records[self.step(step), name]


@torch.no_grad()
def run_pass(
    opened: Opened, source: Source, picture: Image.Image | None, memory: int, watch: Watch
) -> Captured:
    """Draw the source's picture, or read the given one, and keep queries and keys of `memory` bytes.

    Raises UnsupportedError for what the model cannot do, ValueError as the library, Cancelled by `watch`.
    """
    auto = choose_layers(opened.network, tokens_of(opened.network), "auto")[0]
    row = -1 if opened.model is None else prompt_row(opened.pipe)
    keeper = _Keeper(auto, source.steps if source.drawn else 1, memory, row)
    with _counting(opened, keeper), capture(opened.network, "all", reduce=keeper.take, keep=1):
        if source.drawn:
            picture = _draw(opened, source, watch)
        elif opened.prepare is not None:
            inputs, picture = opened.prepare(to_rgb(_given(picture)))
            opened.network(**inputs)
        else:
            settings = Settings(timestep=source.timestep)
            denoiser_pass(opened.pipe, read_images(_given(picture))[0][0], settings, source.caption)
    words = _words(opened, source.prompt if source.drawn else source.caption)
    return Captured(opened, source, _given(picture), *keeper.kept(), auto, words)


def drawing_arguments(opened: Opened, source: Source) -> Arguments:
    """What the pipeline is called with to draw the source's picture."""
    pipe = opened.pipe
    jobs_for(pipe, [source.prompt] if source.prompt else [], 1, source.seed)
    assert opened.model is not None
    sampling = Sampling(source.steps, opened.model.cfg(source.cfg))
    return call_arguments(pipe, sampling, [Job(source.prompt or None, source.seed)])


def _draw(opened: Opened, source: Source, watch: Watch) -> Image.Image:
    arguments = drawing_arguments(opened, source)
    with drawing(opened, source, watch, "drawing"):
        return opened.pipe(**arguments).images[0]


@contextmanager
def drawing(opened: Opened, source: Source, watch: Watch, what: str) -> Iterator[None]:
    """As `tokenrank sample` draws: random numbers that the pipeline takes from nowhere are the seed's too."""
    device = opened.pipe.device
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        finite_pictures(opened.pipe),
        watch.over(opened.network, source.steps, what),
    ):
        torch.manual_seed(source.seed)
        yield


def _given(picture: Image.Image | None) -> Image.Image:
    if picture is None:
        raise ValueError("the picture of this link is not here: give it again")
    return picture


class _Keeper:
    """Takes the first call of each timestep, which is under the prompt, and of it the `row` that is too.

    Steps are kept evenly, so many as fit into `memory` bytes; beyond it only the layer `auto` is.
    """

    def __init__(self, auto: str, steps: int, memory: int, row: int) -> None:
        self.auto, self.total, self.memory, self._row = auto, steps, memory, row
        self.calls: dict[int, int] = {}
        self._call, self._step, self._time = -1, -1, None
        self._first, self._stride, self._wanted = 0, 1, False
        self._records: dict[tuple[int, str], AttentionRecord] = {}

    def begin(self, time: Any) -> None:
        self._call += 1
        time = float(time.flatten()[0]) if isinstance(time, torch.Tensor) and time.numel() else time
        if self._call and time is not None and time == self._time:
            self._wanted = False
            return
        self._step, self._time = self._step + 1, time
        if self._step == 1:
            fit = max(1, self.memory // max(self._first, 1))
            self._stride = -(-self.total // fit)
        self._wanted = (self.total - 1 - self._step) % self._stride == 0 or self._step == 0
        if self._wanted:
            self.calls[self._step] = self._call

    def take(self, record: AttentionRecord) -> None:
        if not self._wanted:
            return
        size = _bytes(record) // record.batch
        if self._step == 0:
            if record.module != self.auto and self._first + size > self.memory:
                return
            self._first += size
        elif (0, record.module) not in self._records:
            return
        row = record.select(self._row)
        # Copies: the view would hold the other rows, and the network may write over its own tensors.
        mask = None if row.mask is None else row.mask.clone()
        self._records[self._step, record.module] = replace(row, q=row.q.clone(), k=row.k.clone(), mask=mask)

    def kept(self) -> tuple[dict[tuple[int, str], AttentionRecord], dict[int, int]]:
        """The records and calls; step 0 goes again where it is out of the even row."""
        if self._stride > 1 and (self.total - 1) % self._stride and len(self.calls) > 1:
            del self.calls[0]
        return {key: one for key, one in self._records.items() if key[0] in self.calls}, self.calls


def _bytes(record: AttentionRecord) -> int:
    return (record.q.numel() + record.k.numel()) * record.q.element_size()


@contextmanager
def _counting(opened: Opened, keeper: _Keeper) -> Iterator[None]:
    """Tell the keeper of each call of the network, and of its timestep where it is given one."""
    names = _names(type(opened.network))

    def before(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        given = dict(zip(names, args, strict=False)) | kwargs
        keeper.begin(given.get("timestep", given.get("timesteps")))

    handle = opened.network.register_forward_pre_hook(eager(before), with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@lru_cache
def _names(network: type) -> list[str]:
    return list(inspect.signature(network.forward).parameters)[1:]


def _words(opened: Opened, text: str) -> dict[int, str]:
    """The text's tokens up to its end, where they share the map with the image."""
    if opened.model is None or not reads_text(opened.pipe) or not words_of(opened.pipe).joint:
        return {}
    found: dict[int, str] = {}
    for reader in text_readers(opened.pipe):
        found |= {place: _readable(token) for place, token in reader.names(text).items()}
    return found


def _readable(token: str) -> str:
    return token.replace("</w>", "").replace("▁", " ").replace("Ġ", " ").strip() or "␣"
