"""Products with attention by a fused kernel on a GPU."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from threading import Timer
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from tokenrank_guidance.markov.chunked import ChunkedProducts
from tokenrank_guidance.markov.mask import Mask

VALUE_DIM = 16  # the narrowest values that the kernel takes
MOST_VALUES = 64
SLOW_SECONDS = 2.0


@cache
def _compiled() -> Callable[..., Any]:
    """Compiled for a first number of tokens, then once more for all others."""
    return torch.compile(flex_attention)


class FusedProducts:
    """``P = softmax(scale * q k.T + mask)``, ``(chains, n, n)``: its products, one attention call each.

    ``P y`` is attention with ``y`` as values. With ``L_i`` the log-sum-exp of row i, ``x P`` is attention
    with q and k swapped, the bias ``-L_i`` and ``x`` as values, times that attention's own normaliser. In the
    precision of q and k, with float32 sums. ``attend`` is `flex_attention`, by default compiled.
    """

    def __init__(
        self,
        q: Float[Tensor, "*batch n dim"],
        k: Float[Tensor, "*batch n dim"],
        scale: float,
        mask: Mask | None = None,
        attend: Callable[..., Any] | None = None,
    ) -> None:
        self._q, self._k = (side.detach().reshape(1, -1, *side.shape[-2:]) for side in (q, k))
        self._scale = scale
        self._mask = mask
        self._attend = attend or _compiled()

    def left(self, x: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        """``x @ P``."""
        out, log_total = self._columns(self._k, self._q, x, self._column_mod)
        # A column that nobody attends to has no mean to scale.
        return torch.where(log_total.isneginf(), 0.0, out * log_total.exp())

    def right(self, y: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        """``y @ P.T``."""
        return self._columns(self._q, self._k, y, self._row_mod)[0]

    @cached_property
    def row_normalisers(self) -> Float[Tensor, "chains n"]:
        """``logsumexp_j`` of the logits, in float32."""
        nothing = self._q.new_zeros(*self._q.shape[:3], VALUE_DIM)
        return self._call(self._q, self._k, nothing, self._row_mod)[1]

    @property
    def _row_mod(self) -> Callable[..., Tensor] | None:
        if self._mask is None:
            return None
        return self._mask.score_mod(self._q.shape[2])

    @property
    def _column_mod(self) -> Callable[..., Tensor]:
        normalisers, mod = self.row_normalisers, self._row_mod
        if mod is None:
            return lambda score, b, h, j, i: score - normalisers[h, i]
        return lambda score, b, h, j, i: mod(score, b, h, i, j) - normalisers[h, i]

    def _columns(
        self,
        q: Float[Tensor, "1 chains n dim"],
        k: Float[Tensor, "1 chains n dim"],
        x: Float[Tensor, "chains m n"],
        mod: Callable[..., Tensor] | None,
    ) -> tuple[Float[Tensor, "chains m n"], Float[Tensor, "chains 1 n"]]:
        outs, normalisers = [], x.new_empty(0)
        for part in x.split(MOST_VALUES, dim=1):
            width = max(VALUE_DIM, 1 << (part.shape[1] - 1).bit_length())
            # To 1 at most, as a step of 1e-8 would be 0 in float16.
            size = part.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(part.dtype).tiny)
            values = F.pad((part / size).mT, (0, width - part.shape[1])).to(q.dtype)
            out, normalisers = self._call(q, k, values.unsqueeze(0).contiguous(), mod)
            outs.append(out[..., : part.shape[1]].mT.to(x.dtype) * size)
        return torch.cat(outs, dim=1), normalisers.unsqueeze(1)

    def _call(
        self,
        q: Float[Tensor, "1 chains n dim"],
        k: Float[Tensor, "1 chains n dim"],
        values: Float[Tensor, "1 chains n width"],
        mod: Callable[..., Tensor] | None,
    ) -> tuple[Float[Tensor, "chains n width"], Float[Tensor, "chains n"]]:
        out, aux = self._attend(
            q, k, values, score_mod=mod, scale=self._scale, return_aux=AuxRequest(lse=True)
        )
        return out.squeeze(0), aux.lse.squeeze(0)


class FusedUntilItFails:
    """Fused products; chunked ones from where the kernel cannot be compiled: no compiler, or an odd shape."""

    def __init__(self, fused: FusedProducts, chunked: ChunkedProducts) -> None:
        self._fused: FusedProducts | None = fused
        self._chunked = chunked

    def left(self, x: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        return self._product(x, FusedProducts.left, self._chunked.left)

    def right(self, y: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        return self._product(y, FusedProducts.right, self._chunked.right)

    def _product(
        self,
        x: Float[Tensor, "chains m n"],
        fused: Callable[[FusedProducts, Tensor], Tensor],
        chunked: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "chains m n"]:
        if self._fused is None:
            return chunked(x)
        try:
            with told_when_slow("compiling a fused attention kernel; it is kept for later products"):
                return fused(self._fused, x)
        except RuntimeError as error:  # torch's compilers raise nothing else
            self._fused = None
            reason = (str(error).splitlines() or ["no reason given"])[0]
            _tell(f"no fused attention kernel ({reason}): products come from chunks")
            return chunked(x)


@contextmanager
def told_when_slow(text: str, after: float = SLOW_SECONDS) -> Iterator[None]:
    """Say on stderr what the block does once it has taken some seconds."""
    timer = Timer(after, _tell, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
