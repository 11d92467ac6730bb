"""Attention masks, never copied as a whole."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tokenrank_guidance.markov.deferred import require

LOG2_E = 1 / math.log(2)


class Mask:
    """A mask for a stack of chains: bool, True where a query attends, or added to the logits.

    ``values`` is ``(own, 1 or n, n)`` and ``index`` says which of them a chain has. ``ValueError`` for
    another shape or dtype, for NaN or +inf, and for a row that is masked as a whole.
    """

    def __init__(self, values: Shaped[Tensor, "own rows n"], index: Int[Tensor, " chains"]) -> None:
        self._values, self._index = values, index

    @classmethod
    def of(cls, mask: Shaped[Tensor, "..."], batch: tuple[int, ...], n: int) -> "Mask":
        """Read a mask that broadcasts to ``(*batch, n, n)``."""
        _check_shape(mask, (*batch, n, n))
        _check_rows(mask)
        mask = mask.detach()
        mask = mask.reshape((1,) * (len(batch) + 2 - mask.ndim) + mask.shape)
        mask = mask.expand(*mask.shape[:-1], n)
        own = mask.shape[:-2]
        index = torch.arange(own.numel(), device=mask.device).view(own).expand(batch).reshape(-1)
        return cls(mask.reshape(-1, *mask.shape[-2:]), index)

    def restrict(self, tokens: Int[Tensor, " k"]) -> "Mask":
        """The rows and columns of ``tokens``."""
        values = self._values.index_select(-1, tokens)
        values = values if values.shape[1] == 1 else values.index_select(1, tokens)
        _check_rows(values)
        return Mask(values, self._index)

    def select(self, chains: Int[Tensor, "*k"] | slice) -> "Mask":
        """The mask of some of the chains."""
        return Mask(self._values, self._index[chains].flatten())

    def score_mod(self, n: int) -> Callable[..., Tensor]:
        """The same for `flex_attention`: ``(score, batch, chain, query, key) -> score``."""
        index, values = self._index, self._values.expand(-1, n, -1)
        if values.dtype == torch.bool:
            return lambda score, b, h, i, j: torch.where(values[index[h], i, j], score, -torch.inf)
        return lambda score, b, h, i, j: score + values[index[h], i, j]

    def apply_(self, logits: Float[Tensor, "chains rows n"], chains: slice, rows: slice) -> None:
        """Mask a chunk of base-2 logits in place."""
        mask = self._values if self._values.shape[1] == 1 else self._values[:, rows]
        mask = mask[self._index[chains]]
        if mask.dtype == torch.bool:
            logits.masked_fill_(~mask, -math.inf)
            return
        # A finite mask of -3e38, which some models use, must not become infinite in base 2.
        added = (mask.to(logits.dtype) * LOG2_E).clamp_min_(torch.finfo(logits.dtype).min)
        logits.add_(added.masked_fill_(mask == -math.inf, -math.inf))


def _check_shape(mask: Tensor, shape: tuple[int, ...]) -> None:
    axes = zip(reversed(mask.shape), reversed(shape), strict=False)
    fits = mask.ndim <= len(shape) and all(own in (1, full) for own, full in axes)
    if not fits or not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise ValueError(
            f"mask: {mask.dtype} of shape {tuple(mask.shape)}, expected bool or floating point that "
            f"broadcasts to {shape}"
        )


def _check_rows(mask: Tensor) -> None:
    if mask.dtype == torch.bool:
        closed = ~mask.any(-1)
    else:
        best = mask.amax(-1)
        require((best < math.inf).all(), lambda: _not_a_mask(best))  # NaN fails, too
        closed = best == -math.inf
    require(~closed.any(), lambda: _closed(closed))


def _not_a_mask(best: Float[Tensor, "*rows"]) -> ValueError:
    return ValueError(f"mask: entries up to {float(best.max())}, expected finite ones or -inf")


def _closed(closed: Bool[Tensor, "*rows"]) -> ValueError:
    row = closed.nonzero()[0].tolist()
    return ValueError(f"mask: row {row} is masked as a whole and attends to no token; drop that token")
