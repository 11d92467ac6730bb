"""Seeing how image tokens attend to text, without touching modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from diffseg.maps.aggregate import Grid
from tokenrank_guidance.capture import AttentionRecord, is_unwatched
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.capture.watch import AttentionCall, read_call
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.families.registry import tokens_of
from tokenrank_guidance.markov.precision import full_precision


class TextAttention:
    """Running means over layers and heads of the (image, text) maps of one image, by number of queries."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Take the cross-attention of `model` while the block runs; nothing stays on it."""
        mode, handles = _Mode(self), []
        try:
            for name, is_self in tokens_of(model).attention(model).items():
                if not is_self:
                    module = model.get_submodule(name)
                    handles.append(module.register_forward_pre_hook(eager(mode.enter)))
                    handles.append(module.register_forward_hook(eager(mode.leave), always_call=True))
            with mode:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def add_joint(self, record: AttentionRecord) -> None:
        """Take the text columns of joint attention; a record without text tokens adds nothing."""
        if record.text is not None:
            text, mask = torch.arange(record.tokens)[record.text], record.mask
            if mask is not None and mask.ndim > 1 and mask.shape[-2] > 1:  # Chroma's has a row for each token
                mask = mask[..., record.image, :]
            self._add(record.q[:, :, record.image], record.k, record.scale, mask, text)

    def add_cross(self, call: AttentionCall) -> None:
        """Take one cross-attention call."""
        self._add(call.q, call.k, call.scale, call.mask, torch.arange(call.k.shape[2]))

    def maps(self, grids: Mapping[int, Grid]) -> dict[Grid, Float[Tensor, "n text"]]:
        """The means by grid; CaptureError where no attention to text was seen."""
        if not self._sums:
            raise CaptureError("no attention to text was seen, so segments cannot be named")
        return {grids[n]: self._sums[n] / self._counts[n] for n in self._sums}

    def _add(self, q: Tensor, k: Tensor, scale: float, mask: Tensor | None, text: Tensor) -> None:
        dtype = torch.promote_types(q.dtype, torch.float32)
        total = 0
        for head in range(q.shape[1]):
            with full_precision(q.device):
                logits = scale * q[0, head].to(dtype) @ k[0, head].to(dtype).mT
            total = total + _masked(logits, mask, head).softmax(-1)[:, text.to(q.device)] / q.shape[1]
        n = q.shape[2]
        self._sums[n] = self._sums[n] + total if n in self._sums else torch.as_tensor(total)
        self._counts[n] = self._counts.get(n, 0) + 1


def _masked(logits: Float[Tensor, "n keys"], mask: Tensor | None, head: int) -> Float[Tensor, "n keys"]:
    if mask is None:
        return logits
    while mask.ndim > 2:
        mask = mask[min(head, mask.shape[0] - 1) if mask.ndim == 3 else 0]
    return logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.to(logits)


class _Mode(TorchFunctionMode):
    """Hands over the first attention call of each cross-attention layer; IP-Adapters make more."""

    def __init__(self, taker: TextAttention) -> None:
        super().__init__()
        self._taker, self._inside = taker, False

    def enter(self, module: nn.Module, args: object) -> None:
        self._inside = not is_unwatched()

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        self._inside = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._inside and func is scaled_dot_product_attention:
            self._inside = False
            self._taker.add_cross(read_call(*args, **kwargs))
        return func(*args, **kwargs)
