"""One attention call, kept as its queries and keys."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tokenrank_guidance.markov import HELD_BYTES, AttentionTransition

Subset = Literal["all", "image", "text"]
EVERYTHING = slice(None)


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """Queries and keys of one self-attention call, and which token is what.

    The map is `softmax(scale * q @ k.T + mask)`: row i says where token i attends. `q` and `k` are
    (batch, heads, tokens, dim), after any norm and rotary embedding; `mask` broadcasts to (batch, heads,
    tokens, tokens) and is boolean (True: may attend) or added to the logits. `image` spans the `grid` of
    (h, w) tokens in row-major order; `text` spans the prompt's tokens where they share the map (SD3, FLUX);
    what is in neither is special. Raises ValueError where the shapes contradict each other.
    """

    q: Float[Tensor, "batch heads tokens dim"]
    k: Float[Tensor, "batch heads tokens dim"]
    scale: float
    mask: Shaped[Tensor, "..."] | None = None
    module: str = ""
    grid: tuple[int, int] | None = None
    image: slice = field(default_factory=lambda: EVERYTHING)  # slices are unhashable before Python 3.12
    text: slice | None = None

    def __post_init__(self) -> None:
        if self.q.ndim != 4 or self.q.shape != self.k.shape:
            shapes = f"{tuple(self.q.shape)} and {tuple(self.k.shape)}"
            raise ValueError(f"q and k must both be (batch, heads, tokens, dim), got {shapes}")
        length = len(range(*self.image.indices(self.tokens)))
        if self.grid is not None and self.grid[0] * self.grid[1] != length:
            raise ValueError(f"a grid of {self.grid} does not hold {length} image tokens")

    @property
    def batch(self) -> int:
        return self.q.shape[0]

    @property
    def heads(self) -> int:
        return self.q.shape[1]

    @property
    def tokens(self) -> int:
        return self.q.shape[2]

    def __repr__(self) -> str:
        size = f"batch={self.batch}, heads={self.heads}, tokens={self.tokens}"
        return f"AttentionRecord({self.module!r}, {size}, grid={self.grid}, {self.q.dtype}, {self.q.device})"

    def maps(self) -> Float[Tensor, "batch heads tokens tokens"]:
        """The dense row-stochastic map, in float32 or better; no autocast lowers it.

        Memory: batch * heads * tokens^2 numbers, several gigabytes for a FLUX layer at 1024 px.
        """
        dtype = torch.promote_types(self.q.dtype, torch.float32)
        with torch.autocast(self.q.device.type, enabled=False):
            logits = (self.q.to(dtype) * self.scale) @ self.k.to(dtype).mT
        if self.mask is None:
            return logits.softmax(-1)
        if self.mask.dtype == torch.bool:
            return logits.masked_fill(~self.mask, -torch.inf).softmax(-1)
        return (logits + self.mask.to(dtype)).softmax(-1)

    def transition(self, tokens: Subset = "all", memory: int = HELD_BYTES) -> AttentionTransition:
        """The map as a Markov chain over `tokens`: softmax over their keys alone.

        That equals restricting the whole chain and renormalising its rows. The chain holds matrices where
        they fit in `memory` bytes, and else works from the queries and keys: see `AttentionTransition`.
        """
        part = self.restrict(tokens)
        return AttentionTransition(part.q, part.k, part.scale, part.mask, memory)

    def restrict(self, tokens: Subset) -> "AttentionRecord":
        """The record of the queries and keys of `tokens` alone ("all", "image" or "text").

        Raises ValueError for a subset that this record does not have.
        """
        if tokens == "all":
            return self
        chosen = {"image": self.image, "text": self.text}.get(tokens)
        if chosen is None:
            raise ValueError(f"{self.module or 'this record'} has no {tokens!r} tokens: use 'all' or 'image'")
        return AttentionRecord(
            q=self.q[:, :, chosen],
            k=self.k[:, :, chosen],
            scale=self.scale,
            mask=_restrict_mask(self.mask, chosen),
            module=self.module,
            grid=self.grid if tokens == "image" else None,
            image=EVERYTHING if tokens == "image" else slice(0, 0),
            text=EVERYTHING if tokens == "text" else None,
        )

    def select(self, batch: int | slice) -> "AttentionRecord":
        """The record of part of the batch, such as the unconditional half of classifier-free guidance.

        A view: it keeps the whole batch's memory alive. An integer keeps the axis, and raises IndexError
        where there is no such row.
        """
        chosen = batch if isinstance(batch, slice) else _one(batch, self.batch)
        mask = self.mask
        if mask is not None and mask.ndim == 4 and mask.shape[0] != 1:
            mask = mask[chosen]
        return replace(self, q=self.q[chosen], k=self.k[chosen], mask=mask)


def _one(index: int, length: int) -> slice:
    position = range(length)[index]
    return slice(position, position + 1)


def _restrict_mask(mask: Shaped[Tensor, "..."] | None, chosen: slice) -> Shaped[Tensor, "..."] | None:
    """Take the rows and columns of `chosen`, leaving axes of size 1 to broadcast."""
    if mask is None:
        return None
    if mask.ndim >= 2 and mask.shape[-2] != 1:
        mask = mask[..., chosen, :]
    return mask if mask.shape[-1] == 1 else mask[..., chosen]
