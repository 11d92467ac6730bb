"""Seeing the queries and keys of the attention layer that is running in this thread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from tokenrank_guidance.capture.linear import LinearAttentionRecord, LinearProducts
from tokenrank_guidance.capture.record import AttentionRecord
from tokenrank_guidance.families.tokens import TokenSpans


@dataclass(frozen=True)
class AttentionCall:
    """What one call of `scaled_dot_product_attention` was given."""

    q: Float[Tensor, "batch heads tokens dim"]
    k: Float[Tensor, "batch heads keys dim"]
    mask: Shaped[Tensor, "..."] | None
    scale: float
    padded: tuple[int, ...] | None = None


def read_call(
    query: Float[Tensor, "..."],
    key: Float[Tensor, "..."],
    value: Float[Tensor, "..."],
    attn_mask: Shaped[Tensor, "..."] | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Bind the arguments as torch does; write a causal mask out, and repeat grouped keys for each head."""
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        attn_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    return AttentionCall(query, key, attn_mask, 1 / math.sqrt(query.shape[-1]) if scale is None else scale)


class Watch(TorchFunctionMode):
    """A torch function mode that keeps the first fitting attention call between `enter` and `leave`.

    That is a call of `scaled_dot_product_attention`, or where `spans` say linear, two of `matmul`.

    One belongs to one thread, because torch's mode stacks do. `spans` holds, by layer name, what each layer's
    call must look like in the running pass, `frames` how many of its rows are a video's, where that is the
    same for all layers; `refused` is the shape of a call that did not fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self.spans: dict[str, TokenSpans] = {}
        self.frames: int | None = None
        self.layer: str | None = None
        self.call: AttentionCall | None = None
        self.refused: str | None = None
        self._rows: list[AttentionCall] = []
        self._below: list[TorchFunctionMode] = []
        self._products = LinearProducts()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        spans = self.spans.get(self.layer) if self.layer is not None and self.call is None else None
        if spans is not None and not spans.linear and func is scaled_dot_product_attention:
            self._look(read_call(*args, **kwargs), spans)
        made = func(*args, **kwargs)
        if spans is not None and spans.linear:
            pair = self._products.read(func, args, made)
            if pair is not None:
                self._look(AttentionCall(*pair, None, 1.0), spans)
        return made

    def _look(self, call: AttentionCall, spans: TokenSpans) -> None:
        if spans.rows is not None and call.q.shape[0] == 1 and call.q.shape[2] >= spans.total:
            self._rows.append(call)
            if len(self._rows) == spans.rows:
                self.call = _together(self._rows)
            return
        # A processor may make a second call, as IP-Adapters do for their own keys: only the map itself fits.
        keys = slice(spans.prompt_keys, call.k.shape[-2] - spans.later_keys)
        own = call.k[..., keys, :]
        if call.q.ndim == 4 and call.q.shape == own.shape and call.q.shape[2] == spans.total:
            self.call = AttentionCall(call.q, own, _of_keys(call.mask, keys), call.scale)
        else:
            shapes = f"q {tuple(call.q.shape)}, k {tuple(call.k.shape)}"
            self.refused = f"{shapes}, expected {spans.total} tokens"

    def enter(self, layer: str) -> None:
        self.clear()
        self.layer, self.refused = layer, None
        self._below = _get_current_function_mode_stack()
        _push_mode(self)

    def leave(self, detach: bool) -> AttentionRecord | None:
        """Stop watching; the record of what was seen, or None."""
        layer, call = self.layer, self.call
        self.clear()
        if layer is None or call is None:
            return None
        q, k = (call.q.detach(), call.k.detach()) if detach else (call.q, call.k)
        spans, mask = self.spans[layer], call.mask
        if spans.starts is not None:
            q, k, mask = _rolled(q, spans.starts, -2), _rolled(k, spans.starts, -2), _rolled_mask(mask, spans)
        text = spans.text if spans.rows is None else slice(spans.image.stop, q.shape[2])
        kind = LinearAttentionRecord if spans.linear else AttentionRecord
        return kind(
            q,
            k,
            call.scale,
            mask,
            layer,
            grid=spans.grid,
            image=spans.image,
            text=text,
            class_token=spans.class_token,
            registers=spans.registers,
            frames=spans.frames,
            padded=call.padded,
        )

    def clear(self) -> None:
        """Forget the running layer and take this mode off this thread's stack, with any other that is done.

        torch runs no forward hooks after KeyboardInterrupt, so a mode may have been left anywhere in it.
        """
        stack = _get_current_function_mode_stack()
        stray = _stray(stack, self._below) if self.layer is not None and self not in stack else None
        self.layer = self.call = None
        self._products.clear()
        self._rows = []
        kept = [mode for mode in stack if mode is not stray and not _is_done(mode)]
        if len(kept) == len(stack):
            return
        for _ in stack:
            _pop_mode()
        for mode in kept:
            _push_mode(mode)


def _together(rows: Sequence[AttentionCall]) -> AttentionCall:
    """Every row's own call, which has no mask, with padding up to the longest."""
    lengths = [row.q.shape[2] for row in rows]
    longest = max(lengths)
    padded = [longest - length for length in lengths]
    q, k = (
        torch.cat([pad(getattr(row, name), (0, 0, 0, more)) for row, more in zip(rows, padded, strict=True)])
        for name in ("q", "k")
    )
    if not any(padded):
        return AttentionCall(q, k, None, rows[0].scale)
    real = torch.arange(longest, device=q.device) < torch.tensor(lengths, device=q.device)[:, None]
    return AttentionCall(q, k, real[:, None, None], rows[0].scale, tuple(padded))


def _of_keys(mask: Shaped[Tensor, "..."] | None, keys: slice) -> Shaped[Tensor, "..."] | None:
    """The part for these keys."""
    return mask if mask is None or mask.shape[-1] == 1 else mask[..., keys]


def _rolled(x: Shaped[Tensor, "batch ..."], starts: Sequence[int], axis: int) -> Shaped[Tensor, "batch ..."]:
    """Each row of the batch rolled along `axis` so that it begins at its start."""
    return torch.stack([row.roll(-start, axis) for row, start in zip(x, starts, strict=True)])


def _rolled_mask(mask: Shaped[Tensor, "..."] | None, spans: TokenSpans) -> Shaped[Tensor, "..."] | None:
    if mask is None or spans.starts is None:
        return mask
    each = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    each = each.expand(len(spans.starts), -1, -1, -1)
    for axis in (-2, -1):
        each = each if each.shape[axis] == 1 else _rolled(each, spans.starts, axis)
    return each


def _is_done(mode: TorchFunctionMode) -> bool:
    return isinstance(mode, Watch) and mode.layer is None


def _stray(stack: list[TorchFunctionMode], below: list[TorchFunctionMode]) -> TorchFunctionMode | None:
    """The mode left in exchange for a watch that is gone: `__exit__` of a mode pops the topmost, whosever."""
    return next((mode for mode in reversed(stack) if mode in below), None)
