"""How much attention matters to a number that a model computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from tokenrank_guidance.capture.layers import Layers
from tokenrank_guidance.capture.record import AttentionRecord
from tokenrank_guidance.capture.session import capture
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.markov import AttentionGradient


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
        where the pass left no graph, as under torch.no_grad() or inference_mode().
        """
        calls = [self._calls.find(record) for record in self._records]
        outputs = [output for _, output in calls]
        if not number.requires_grad or not all(output.requires_grad for output in outputs):
            raise CaptureError(
                "the pass left no autograd graph: run the model with gradients enabled, its weights or its "
                "input requiring them, and give a number that it computed"
            )
        gradients = torch.autograd.grad(number.sum(), outputs, retain_graph=retain_graph)
        return [
            AttentionGradient(record.q, record.k, value.detach(), gradient, record.scale, record.mask)
            for record, (value, _), gradient in zip(self.records, calls, gradients, strict=True)
        ]


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


class _Calls(TorchFunctionMode):
    """Values and outputs of every attention call, by its queries."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention:
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
            f"{record.module} attends to more than its own tokens, so its gradient is of no one map of them"
        )


def _repeated(given: dict[str, Any]) -> Tensor:
    """Grouped values for each head."""
    value = given["value"]
    if not given.get("enable_gqa"):
        return value
    return value.repeat_interleave(given["query"].shape[-3] // value.shape[-3], -3)
