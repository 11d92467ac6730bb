"""One attention call, kept as its queries and keys."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from tokenrank_guidance.markov import AttentionTransition, TransitionOperator

Subset = Literal["all", "image", "text", "class+image"]
EVERYTHING = slice(None)


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """Queries and keys of one self-attention call, and which token is what.

    The map is `softmax(scale * q @ k.T + mask)`: row i says where token i attends. `q` and `k` are
    (batch, heads, tokens, dim), after any norm and rotary embedding; `mask` broadcasts to (batch, heads,
    tokens, tokens) and is boolean (True: may attend) or added to the logits. `image` spans the `grid` of
    (h, w) tokens in row-major order, (t, h, w) where the frames of a video share the map; where each has its
    own, every `frames` rows of the batch are a video; `text` spans the prompt's tokens where they share the
    map (SD3, FLUX); `class_token` is the index of a vision transformer's class token and `registers` spans
    its registers; what is in none of them is special. `padded`: how many of the last tokens of each row of
    the batch are none at all, which is what `mask` hides then. Raises ValueError where the shapes contradict
    each other.
    """

    q: Float[Tensor, "batch heads tokens dim"]
    k: Float[Tensor, "batch heads tokens dim"]
    scale: float
    mask: Shaped[Tensor, "..."] | None = None
    module: str = ""
    grid: tuple[int, ...] | None = None
    image: slice = field(default_factory=lambda: EVERYTHING)  # slices are unhashable before Python 3.12
    text: slice | None = None
    class_token: int | None = None
    registers: slice | None = None
    frames: int | None = None
    padded: tuple[int, ...] | None = None

    _sides: ClassVar[tuple[str, ...]] = ("q", "k")  # each (batch, heads, tokens, dim)

    def __post_init__(self) -> None:
        if self.q.ndim != 4 or self.q.shape != self.k.shape:
            shapes = f"{tuple(self.q.shape)} and {tuple(self.k.shape)}"
            raise ValueError(f"q and k must both be (batch, heads, tokens, dim), got {shapes}")
        length = len(range(*self.image.indices(self.tokens)))
        if self.grid is not None and math.prod(self.grid) != length:
            raise ValueError(f"a grid of {self.grid} does not hold {length} image tokens")
        if self.class_token is not None and not 0 <= self.class_token < self.tokens:
            raise ValueError(f"a class token at {self.class_token} is outside the {self.tokens} tokens")

    @property
    def plane(self) -> tuple[int, int] | None:
        """The grid of one picture; ValueError where the frames of a video share the map."""
        if self.grid is None or len(self.grid) == 2:
            return self.grid
        size = "×".join(map(str, self.grid))
        raise ValueError(
            f"{self.module or 'this record'} attends over {size} tokens of a video at once; expected the map "
            "of one picture"
        )

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
        name, size = type(self).__name__, f"batch={self.batch}, heads={self.heads}, tokens={self.tokens}"
        return f"{name}({self.module!r}, {size}, grid={self.grid}, {self.q.dtype}, {self.q.device})"

    def maps(self) -> Float[Tensor, "batch heads tokens tokens"]:
        """The dense row-stochastic map, in float32 or better; no autocast lowers it.

        Memory: batch * heads * tokens^2 numbers, several gigabytes for a FLUX layer at 1024 px.
        """
        return self.rows(slice(None))

    def rows(self, tokens: Int[Tensor, " rows"] | slice) -> Float[Tensor, "batch heads rows tokens"]:
        """The rows of the map of some tokens alone: where these attend."""
        dtype = torch.promote_types(self.q.dtype, torch.float32)
        with torch.autocast(self.q.device.type, enabled=False):
            logits = (self.q[:, :, tokens].to(dtype) * self.scale) @ self.k.to(dtype).mT
        if self.mask is None:
            return logits.softmax(-1)
        mask = self.mask if self.mask.ndim < 2 or self.mask.shape[-2] == 1 else self.mask[..., tokens, :]
        if mask.dtype == torch.bool:
            return logits.masked_fill(~mask, -torch.inf).softmax(-1)
        return (logits + mask.to(dtype)).softmax(-1)

    def transition(self, tokens: Subset = "all", memory: int | None = None) -> TransitionOperator:
        """The map as a Markov chain over `tokens`: softmax over their keys alone.

        That equals restricting the whole chain and renormalising its rows. The chain holds matrices where
        they fit in `memory` bytes, and else works from the queries and keys: see `AttentionTransition`.
        """
        part = self.restrict(tokens)
        return AttentionTransition(part.q, part.k, part.scale, part.mask, memory)

    def restrict(self, tokens: Subset) -> Self:
        """The record of the queries and keys of `tokens` alone.

        `tokens`: "all", "image", "text" or "class+image", the class token followed by the image tokens and no
        registers. Raises ValueError for a subset that this record does not have.
        """
        if tokens == "all":
            return self
        chosen = self._spans(tokens)
        has_class, has_image = tokens == "class+image", tokens != "text"
        return replace(
            self,
            **{name: _take(side, 2, chosen) for name, side in self._all_sides().items()},
            mask=_restrict_mask(self.mask, chosen) if self.padded is None or not has_image else None,
            grid=self.grid if has_image else None,
            image=slice(int(has_class), None) if has_image else slice(0, 0),
            text=EVERYTHING if tokens == "text" else None,
            class_token=0 if has_class else None,
            registers=None,
            frames=self.frames,
            padded=None,
        )

    def first(self, count: int) -> Self:
        """The record of its first tokens alone; ValueError where these do not hold the image's."""
        if self.image.indices(self.tokens)[1] > count:
            raise ValueError(f"count: got {count}, expected all image tokens, {self.image}, among the first")
        kept = [slice(0, count)]
        text = None if self.text is None else slice(self.text.start, min(self.text.stop, count))
        sides = {name: _take(side, 2, kept) for name, side in self._all_sides().items()}
        return replace(self, **sides, mask=_restrict_mask(self.mask, kept), text=text)

    def _spans(self, tokens: Subset) -> list[slice]:
        """Where `tokens` are, in the order in which the restricted record has them."""
        class_token = None if self.class_token is None else slice(self.class_token, self.class_token + 1)
        parts = {"image": [self.image], "text": [self.text], "class+image": [class_token, self.image]}
        asked = parts.get(tokens, [None])
        spans = [span for span in asked if span is not None]
        if len(spans) < len(asked):
            raise ValueError(f"{self.module or 'this record'} has no {tokens!r} tokens: use 'all' or 'image'")
        return spans

    def select(self, batch: int | slice) -> Self:
        """The record of part of the batch, such as the unconditional half of classifier-free guidance.

        A view: it keeps the whole batch's memory alive. An integer keeps the axis, and raises IndexError
        where there is no such row. Frames that are rows of the batch are pictures like others from here on.
        Padding goes, as far as all of that part has it.
        """
        chosen = batch if isinstance(batch, slice) else _one(batch, self.batch)
        mask = self.mask
        if mask is not None and _is_batched(mask):
            mask = mask[chosen]
        sides = {name: side[chosen] for name, side in self._all_sides().items()}
        part = replace(self, **sides, mask=mask, frames=None)
        if self.padded is None:
            return part
        padded = self.padded[chosen]
        least = min(padded, default=0)
        left = tuple(count - least for count in padded)
        part = replace(part, mask=mask if any(left) else None, padded=left if any(left) else None)
        return part.first(self.tokens - least)

    def detached(self) -> Self:
        """Out of the autograd graph."""
        return replace(self, **{name: side.detach() for name, side in self._all_sides().items()})

    def images(self, chosen: slice) -> Self:
        """As `select`, counted in images or videos, though frames may be rows of their own."""
        if self.frames is None:
            return self.select(chosen)
        rows = self._all_sides()
        if self.mask is not None and _is_batched(self.mask):
            rows["mask"] = self.mask
        kept = {name: x.unflatten(0, (-1, self.frames))[chosen].flatten(0, 1) for name, x in rows.items()}
        return replace(self, **kept)

    def _all_sides(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self._sides}


def _is_batched(mask: Shaped[Tensor, "..."] | None) -> bool:
    return mask is not None and mask.ndim == 4 and mask.shape[0] != 1


def _one(index: int, length: int) -> slice:
    position = range(length)[index]
    return slice(position, position + 1)


def _take(x: Shaped[Tensor, "..."], axis: int, spans: Sequence[slice]) -> Shaped[Tensor, "..."]:
    """The entries of `spans` along `axis`, one after the other; a view where one span is all."""
    bounds = [span.indices(x.shape[axis])[:2] for span in spans]
    parts = [x.narrow(axis, start, stop - start) for start, stop in bounds]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _restrict_mask(
    mask: Shaped[Tensor, "..."] | None, chosen: Sequence[slice]
) -> Shaped[Tensor, "..."] | None:
    """Take the rows and columns of `chosen`, leaving axes of size 1 to broadcast."""
    if mask is None:
        return None
    if mask.ndim >= 2 and mask.shape[-2] != 1:
        mask = _take(mask, -2, chosen)
    return mask if mask.shape[-1] == 1 else _take(mask, -1, chosen)
