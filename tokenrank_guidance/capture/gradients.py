"""How much attention matters to a number that a model computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.capture.layers import Layers
from tokenrank_guidance.capture.record import AttentionRecord
from tokenrank_guidance.capture.session import Capture, capture
from tokenrank_guidance.capture.tap import AttentionTap
from tokenrank_guidance.capture.unwatched import unwatched
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.markov import AttentionGradient

NO_GRAPH = (
    "the pass left no autograd graph from its attention to the number: run the model with gradients enabled, "
    "and give a number that it computed of all these layers"
)


@dataclass(frozen=True, eq=False)
class GradientRecord(AttentionRecord):
    """An attention call with its values, and the derivative of a number by what it gave: `output`."""

    v: Float[Tensor, "batch heads tokens value"] = field(kw_only=True)
    output: Float[Tensor, "batch heads tokens value"] = field(kw_only=True)

    _sides = ("q", "k", "v", "output")

    @property
    def gradient(self) -> AttentionGradient:
        """The layer's attention and its gradient, for a `GradientTransition`."""
        return AttentionGradient(self.q, self.k, self.v, self.output, self.scale, self.mask)


class Gradients:
    """The attention layers of one pass that is still in the autograd graph."""

    def __init__(self, records: Sequence[AttentionRecord], calls: _Calls) -> None:
        self._records, self._calls = records, calls

    @property
    def records(self) -> list[AttentionRecord]:
        """Queries and keys of each layer, in running order, out of the graph, and which token is what."""
        return [record.detached() for record in self._records]

    def of(self, number: Float[Tensor, "..."], retain_graph: bool = False) -> list[AttentionGradient]:
        """Each layer's attention and the derivative of `number`'s sum by what it gave, in running order.

        One backward pass; no map is made. Sums over the images of a batch keep these apart. CaptureError
        where the pass left no graph, as under torch.no_grad() or inference_mode(), and for attention that is
        not one call over a layer's own tokens.
        """
        return [record.gradient for record in self.records_of(number, retain_graph)]

    def records_of(self, number: Float[Tensor, "..."], retain_graph: bool = False) -> list[GradientRecord]:
        """As `of`, with which token is what."""
        if not number.requires_grad:
            raise CaptureError(NO_GRAPH)
        calls = [self._calls.find(record) for record in self._records]
        outputs = [output for _, output in calls]
        gradients = torch.autograd.grad(number.sum(), outputs, retain_graph=retain_graph, allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise CaptureError(NO_GRAPH)
        return [
            GradientRecord(**_fields(record), v=value.detach(), output=gradient)
            for record, (value, _), gradient in zip(self.records, calls, gradients, strict=True)
        ]


def _fields(record: AttentionRecord) -> dict[str, Any]:
    return {one.name: getattr(record, one.name) for one in fields(AttentionRecord)}


@contextmanager
def attention_gradients(model: nn.Module, layers: Layers = "all") -> Iterator[Gradients]:
    """See the attention of `model` in the block, so that it can be asked what matters to a number:

        with attention_gradients(vit) as attention:
            logit = vit(image).logits.max()
        chain = GradientTransition(attention.of(logit))

    `layers` and what is raised as in `capture`; the output of the model does not change.
    """
    with _Calls() as calls, capture(model, layers, detach=False) as records:
        yield Gradients(records, calls)


@contextmanager
def extra_gradients(tap: AttentionTap) -> Iterator[Gradients]:
    """As `attention_gradients`, of a pass made inside another, which only `tap` sees, made with detach=False.

    Whatever is enabled around it, there is a graph from the first of the tap's layers on, and none of what
    runs before.
    """
    handles: list[Any] = []
    with torch.inference_mode(False), torch.no_grad(), unwatched(but=tap), _Calls() as calls:
        try:
            for layer in tap.layers:
                module = tap.model.get_submodule(layer)
                handles.append(module.register_forward_pre_hook(eager(_with_graph)))
            tap.attach()
            yield Gradients(Capture(tap), calls)
        finally:
            tap.detach()
            for handle in handles:
                handle.remove()


def _with_graph(module: nn.Module, args: tuple[Any, ...]) -> None:
    torch.set_grad_enabled(True)


class _Calls(TorchFunctionMode):
    """Values and outputs of every attention call, by its queries."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention and torch.is_grad_enabled():
            if not made.requires_grad:  # of frozen weights: the graph begins here
                made.requires_grad_()
            given: dict[str, Any] = dict(zip(("query", "key", "value"), args, strict=False))
            given |= kwargs or {}
            self._seen.append((given["query"], _repeated(given), made))
        return made

    def find(self, record: AttentionRecord) -> tuple[Tensor, Tensor]:
        """The values and the output of the call that the record is of."""
        for q, value, made in self._seen:
            if q is record.q and value.shape[-2] == record.tokens:
                return value, made
        raise CaptureError(
            f"{record.module} does not attend by one call of scaled_dot_product_attention over its own "
            "tokens alone, so a gradient is of no one map of them"
        )


def _repeated(given: dict[str, Any]) -> Tensor:
    """Grouped values for each head."""
    value = given["value"]
    if not given.get("enable_gqa"):
        return value
    return value.repeat_interleave(given["query"].shape[-3] // value.shape[-3], -3)
