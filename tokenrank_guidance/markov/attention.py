"""A chain known by its queries and keys."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tokenrank_guidance.markov.chunked import ChunkedProducts
from tokenrank_guidance.markov.composite import MixtureTransition
from tokenrank_guidance.markov.dense import DenseTransition
from tokenrank_guidance.markov.distribution import as_head_weights
from tokenrank_guidance.markov.logits import Logits
from tokenrank_guidance.markov.mask import Mask
from tokenrank_guidance.markov.operator import TransitionOperator, token_index
from tokenrank_guidance.markov.precision import compute_dtype, full_precision
from tokenrank_guidance.markov.products import HeldProducts, LeftProduct, Products, RightProduct
from tokenrank_guidance.markov.vectors import per_chain
from tokenrank_guidance.memory import chains_at_a_time, held_bytes


class AttentionTransition(TransitionOperator):
    """``softmax(scale * q k.T + mask)`` from q and k: exact, in O(n) memory, one pass over them a product.

    ``q`` and ``k`` are ``(*batch, n, dim)``; ``mask`` broadcasts to ``(*batch, n, n)`` and is bool (True: may
    attend) or added to the logits. Products run in float32 or better, and have first derivatives with respect
    to q, k and the vector. Where the matrices fit in ``memory`` bytes they are made at the first product and
    held, and solvers take as many chains at a time as fit; 0 never holds one. By default that is `HELD_BYTES`
    on a CPU and a part of a GPU's memory.

    ``ValueError`` for queries and keys that differ in shape (cross-attention is no chain), that are not
    floating or not finite, and for a mask that leaves a row no token. Costs a few host syncs to build.
    """

    def __init__(
        self,
        q: Float[Tensor, "*batch n dim"],
        k: Float[Tensor, "*batch n dim"],
        scale: float,
        mask: Shaped[Tensor, "..."] | Mask | None = None,
        memory: int | None = None,
    ) -> None:
        _check(q, k)
        self._q, self._k, self._scale = q, k, scale
        self._memory = held_bytes(q.device) if memory is None else memory
        self._mask = Mask.of(mask, tuple(q.shape[:-2]), q.shape[-2]) if isinstance(mask, Tensor) else mask
        self._chunked = ChunkedProducts(Logits(q, k, scale, self._mask))

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._q.shape[:-1], self._q.shape[-2])

    @property
    def dtype(self) -> torch.dtype:
        return compute_dtype(self._q.dtype)

    @property
    def device(self) -> torch.device:
        return self._q.device

    @property
    def requires_grad(self) -> bool:
        return self._q.requires_grad or self._k.requires_grad

    @property
    def holds_matrices(self) -> bool:
        """Whether products come from matrices in memory: the size rule's answer for this chain."""
        return self._fits(self.shape)

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        def product(stack: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
            return LeftProduct.apply(self._q, self._k, stack, self._products, self._chunked)

        return per_chain(product, self._as_vector(x), self.batch_shape)

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        def product(stack: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
            return RightProduct.apply(self._q, self._k, stack, self._products, self._chunked)

        return per_chain(product, self._as_vector(y), self.batch_shape)

    def row(self, token: int) -> Float[Tensor, "*batch n"]:
        """Of one query alone, where no mask changes it."""
        if self._mask is not None:
            return super().row(token)
        with full_precision(self.device):
            query = self._q[..., token, None, :].to(self.dtype) * self._scale
            return (query @ self._k.to(self.dtype).mT).squeeze(-2).softmax(-1)

    def restrict(self, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> AttentionTransition:
        """The same queries and keys without the others: softmax over those keys alone."""
        index = token_index(tokens, self.n).to(self.device)
        mask = None if self._mask is None else self._mask.restrict(index)
        q, k = self._q.index_select(-2, index), self._k.index_select(-2, index)
        return type(self)(q, k, self._scale, mask, self._memory)

    @property
    def room(self) -> int:
        return chains_at_a_time(self.n**2 * self.dtype.itemsize, self._memory, self.device)

    def part(self, first: int, end: int) -> TransitionOperator:
        part = self._taken(slice(first, end))
        if isinstance(part, AttentionTransition) and isinstance(part._products, HeldProducts):
            return part._taken(slice(None))  # its matrices, without what a derivative would take
        return part

    def select(self, chains: Int[Tensor, "*k"]) -> TransitionOperator:
        return self._taken(chains)

    def _taken(self, chains: Int[Tensor, "*k"] | slice) -> TransitionOperator:
        source = self._source
        if isinstance(source, HeldProducts) and not self.requires_grad:
            return DenseTransition.trusted(source.matrix(self.dtype)[chains])
        q, k = (side.reshape(-1, *side.shape[-2:])[chains] for side in (self._q, self._k))
        mask = None if self._mask is None else self._mask.select(chains)
        return type(self)(q, k, self._scale, mask, self._memory)

    def mix(self, head_weights: Float[Tensor, "*weights heads"]) -> TransitionOperator:
        """One matrix of the mixture, made in one pass, where it fits in ``memory`` and needs no gradient."""
        weights = as_head_weights(head_weights, self)
        shape = (*self.batch_shape[:-1], self.n, self.n)
        if self.requires_grad or weights.requires_grad or not self._fits(shape):
            return MixtureTransition(self, weights)
        with torch.no_grad(), full_precision(self.device):
            mixed = self._source.mixed(weights.reshape(-1, self.batch_shape[-1]))
            return DenseTransition.trusted(mixed.view(shape))

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        """The matrices; without a gradient, as no product with a vector needs them."""
        with torch.no_grad(), full_precision(self.device):
            return self._source.matrix(self.dtype).view(self.shape)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return math.prod(shape) * self.dtype.itemsize <= self._memory

    @property
    def _source(self) -> ChunkedProducts | HeldProducts:
        """Where matrices are made from: those in memory, if they have been made, else Q and K."""
        made = self.__dict__.get("_products")
        return made if isinstance(made, HeldProducts) else self._chunked

    @cached_property
    def _products(self) -> Products:
        if self.holds_matrices:
            try:
                with torch.no_grad(), full_precision(self.device):
                    return HeldProducts(self._chunked.matrix(self.dtype))
            except torch.OutOfMemoryError:
                return self._streamed()  # the model needs what the device has
        return self._streamed()

    def _streamed(self) -> Products:
        return self._chunked


class FusedTransition(AttentionTransition):
    """The same with products by a fused attention kernel, on a GPU and where the matrices do not fit.

    It is compiled at the first product, for a minute or so, in which a thousand products from chunks can be
    had; and runs in the precision of q and k, with float32 sums. Where it cannot be compiled, a line on
    stderr says so and products come from chunks.
    """

    def _streamed(self) -> Products:
        if self.device.type != "cuda" or self._chunked.in_float64:
            return self._chunked
        from tokenrank_guidance.markov.fused import FusedProducts, FusedUntilItFails  # a second to import

        fused = FusedProducts(self._q, self._k, self._scale, self._mask)
        return FusedUntilItFails(fused, self._chunked)


def _check(q: Tensor, k: Tensor) -> None:
    shapes = f"{tuple(q.shape)} and {tuple(k.shape)}"
    if not (q.is_floating_point() and q.dtype == k.dtype):
        raise ValueError(f"q and k: dtypes {q.dtype} and {k.dtype}, expected one floating-point dtype")
    if q.shape != k.shape:
        raise ValueError(
            f"q and k: shapes {shapes}, expected the same (..., n, dim) for both; only self-attention or "
            "joint attention is a chain, cross-attention is not"
        )
    if q.ndim < 2 or q.numel() == 0:
        raise ValueError(f"q and k: shapes {shapes}, expected (..., n, dim) with at least one token")
