"""Products with a stack of chains, and their derivatives."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokenrank_guidance.markov.chunked import ChunkedProducts
from tokenrank_guidance.markov.precision import full_precision


@runtime_checkable
class Products(Protocol):
    """``m`` vectors at a time for each of a stack of chains."""

    def left(self, x: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        """``x @ P``."""
        ...

    def right(self, y: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        """``y @ P.T``."""
        ...


class HeldProducts:
    """From matrices in memory."""

    def __init__(self, matrices: Float[Tensor, "chains n n"]) -> None:
        self._matrices = matrices

    def left(self, x: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        return x @ self._matrices

    def right(self, y: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        return y @ self._matrices.mT

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "chains n n"]:
        return self._matrices.to(dtype)

    def mixed(self, head_weights: Float[Tensor, "groups heads"]) -> Float[Tensor, "groups n n"]:
        heads = self._matrices.view(*head_weights.shape, *self._matrices.shape[1:])
        return torch.einsum("gh,ghij->gij", head_weights, heads)


class LeftProduct(torch.autograd.Function):
    """``x @ P`` by any `Products`, differentiated by `ChunkedProducts.gradient` instead of a graph.

    Call ``apply(q, k, x, products, chunked)`` with the q and k that both were made from.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, x: Tensor, products: Products, chunked: ChunkedProducts
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.products, ctx.chunked, ctx.shape, ctx.dtype = products, chunked, q.shape, q.dtype
        with full_precision(x.device):
            return products.left(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        with full_precision(grad.device):
            sides = _sides(ctx, x, grad)
            return *sides, ctx.products.right(grad) if ctx.needs_input_grad[2] else None, None, None


class RightProduct(torch.autograd.Function):
    """``y @ P.T``, in the same way."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, y: Tensor, products: Products, chunked: ChunkedProducts
    ) -> Tensor:
        ctx.save_for_backward(y)
        ctx.products, ctx.chunked, ctx.shape, ctx.dtype = products, chunked, q.shape, q.dtype
        with full_precision(y.device):
            return products.right(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        with full_precision(grad.device):
            sides = _sides(ctx, grad, y)
            return *sides, ctx.products.left(grad) if ctx.needs_input_grad[2] else None, None, None


def _sides(ctx: Any, x: Tensor, u: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Derivatives of ``sum_m x_m P u_m`` in the shape and dtype of q and k."""
    if not any(ctx.needs_input_grad[:2]):
        return None, None
    grad_q, grad_k = ctx.chunked.gradient(x, u)
    return grad_q.reshape(ctx.shape).to(ctx.dtype), grad_k.reshape(ctx.shape).to(ctx.dtype)
