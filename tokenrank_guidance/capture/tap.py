"""Taking attention records from a model over many forward passes."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import nn

from tokenrank_guidance.capture.eager import EagerForward, Removable, eager
from tokenrank_guidance.capture.layers import Layers, choose_layers
from tokenrank_guidance.capture.record import AttentionRecord
from tokenrank_guidance.capture.unwatched import is_unwatched
from tokenrank_guidance.capture.watch import Watch
from tokenrank_guidance.checks import is_whole
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.families.registry import tokens_of
from tokenrank_guidance.families.tokens import ForwardPass

COMPILED = (
    "If it is compiled: no graph can be seen into where another library (offloading, a cache) has its own "
    "forward on such a layer; compile only blocks that do not hold these layers, each with block.compile(), "
    "or run it under torch.compiler.set_stance('force_eager')"
)

SOFTMAX = "torch's scaled_dot_product_attention"
LINEAR = "torch's matmul twice, as linear attention does"


class AttentionTap:
    """Records the chosen self-attention layers of `model` whenever it runs between `attach` and `detach`.

    The model is walked once, here; an attached tap costs a few hooks per pass and changes no output. It keeps
    the last `keep` records of each layer (None: all), or `reduce(record)` in place of each; `detach=False`
    leaves queries and keys in the autograd graph. A tap that is `muted` sees nothing, nor does any tap in an
    `unwatched` pass. Each thread is watched on its own, but all passes of one model fill one list: give
    threads a model each. Raises ValueError for layers that do not exist (see `choose_layers`) and
    UnsupportedError for an unknown model.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers = "auto",
        *,
        keep: int | None = 1,
        reduce: Callable[[AttentionRecord], Any] | None = None,
        detach: bool = True,
    ) -> None:
        if keep is not None and not is_whole(keep):
            raise ValueError(f"keep: got {keep!r}, expected a whole number ≥ 1, or None for no bound")
        if reduce is not None and not callable(reduce):
            raise ValueError(f"reduce: got {reduce!r}, expected a function of an AttentionRecord")
        self.model: nn.Module = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
        self._tokens = tokens_of(self.model)
        self.layers = choose_layers(self.model, self._tokens, layers)
        self._sources = {layer: self._tokens.source(self.model, layer) for layer in self.layers}
        self._keep, self._reduce, self._detach = keep, reduce, detach
        self._handles: list[Removable] = []
        self._watches: dict[int, Watch] = {}
        self._taken: list[tuple[str, Any]] = []
        self._blind: dict[str, str] = {}
        self._ran = False
        self.muted = False

    @property
    def attached(self) -> bool:
        return bool(self._handles)

    @property
    def records(self) -> list[Any]:
        """What is kept, in the order of the calls."""
        return [item for _, item in self._taken]

    def attach(self) -> "AttentionTap":
        """Put the hooks on; does nothing if they are on."""
        if self.attached:
            return self
        begin = partial(eager(self._begin), _names(self.model))
        self._handles.append(self.model.register_forward_pre_hook(begin, with_kwargs=True))
        for source in dict.fromkeys(self._sources.values()):
            module = self.model.get_submodule(source)
            layers = tuple(layer for layer in self.layers if self._sources[layer] == source)
            locate = partial(eager(self._locate), layers, _names(module))
            self._handles.append(module.register_forward_pre_hook(locate, with_kwargs=True))
        for layer in self.layers:
            module = self.model.get_submodule(layer)
            self._handles.append(module.register_forward_pre_hook(partial(eager(self._enter), layer)))
            # Prepended, so that several taps on one layer leave in the reverse order of entering.
            leave = partial(eager(self._leave), layer)
            self._handles.append(module.register_forward_hook(leave, always_call=True, prepend=True))
            self._handles.append(EagerForward(module))
        return self

    def detach(self) -> None:
        """Take every hook off and leave nothing on the mode stack; the records stay."""
        while self._handles:
            self._handles.pop().remove()
        self._watch().clear()
        for watch in self._watches.values():
            watch.layer = None  # what an interrupt left on another thread's stack is done from here on
        self._watches.clear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See nothing in this thread for a while: for an extra pass of the same model."""
        watch = self._watch()
        before, watch.paused = watch.paused, True
        try:
            yield
        finally:
            watch.paused = before

    def pop(self) -> list[Any]:
        """Hand over the records and start anew; CaptureError if there is none, or if a layer ran unseen."""
        try:
            self.check()
            return self.records
        finally:
            self._taken, self._blind, self._ran = [], {}, False

    def check(self) -> None:
        """Raise CaptureError, saying why and what to do, if there is no record or a layer ran unseen."""
        if self._blind:
            reasons = "; ".join(f"{layer} {reason}" for layer, reason in self._blind.items())
            raise CaptureError(f"attention was not seen: {reasons}. {self._tokens.advice}. {COMPILED}")
        if not self._taken:
            ran = "ran without reaching" if self._ran else "was not seen to run, nor"
            raise CaptureError(f"nothing was captured: the model {ran} {', '.join(self.layers)}. {COMPILED}")

    def _watch(self) -> Watch:
        thread = get_ident()
        if thread not in self._watches:
            self._watches[thread] = Watch()
        return self._watches[thread]

    def _blocked(self) -> bool:
        # Dynamo would trace the hooks into the graph and leave the mode out of it.
        return torch.compiler.is_compiling() or is_unwatched(self) or self.muted or self._watch().paused

    def _begin(
        self, names: tuple[str, ...], module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if self._blocked():
            return
        watch = self._watch()
        watch.clear()
        watch.frames = self._tokens.frames({**dict(zip(names, args, strict=False)), **kwargs})
        self._ran = True

    def _locate(
        self,
        layers: tuple[str, ...],
        names: tuple[str, ...],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        if self._blocked():
            return
        inputs = {**dict(zip(names, args, strict=False)), **kwargs}
        watch = self._watch()
        for layer in layers:
            spans = self._tokens.spans(ForwardPass(self.model, module, layer, inputs))
            watch.spans[layer] = spans if watch.frames is None else replace(spans, frames=watch.frames)

    def _enter(self, layer: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not self._blocked():
            self._watch().enter(layer)

    def _leave(self, layer: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._blocked():
            return
        watch = self._watch()
        record = watch.leave(self._detach)
        if record is not None:
            self._blind.pop(layer, None)
            self._take(layer, record)
        elif output is not None:  # None: the layer raised
            wanted = LINEAR if layer in watch.spans and watch.spans[layer].linear else SOFTMAX
            self._blind[layer] = _reason(self.model, module, watch.refused, wanted)

    def _take(self, layer: str, record: AttentionRecord) -> None:
        self._taken.append((layer, self._reduce(record) if self._reduce else record))
        own = [i for i, (name, _) in enumerate(self._taken) if name == layer]
        if self._keep is not None and len(own) > self._keep:
            del self._taken[own[0]]


def _names(module: nn.Module) -> tuple[str, ...]:
    """Those of the arguments that it is called with."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def _reason(model: nn.Module, module: nn.Module, refused: str | None, wanted: str) -> str:
    if refused and hasattr(model, "_tome_info"):
        return f"attends to merged tokens ({refused}): choose a layer that token merging (ToMe) leaves whole"
    if refused:
        return f"made an attention call of another size ({refused})"
    ran = type(getattr(module, "processor", module)).__name__
    return f"ran with {ran}, which did not call {wanted}"
