"""The chain of attention that matters to one number: its gradient times itself, over heads and layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tokenrank_guidance.markov.composite import MixtureTransition, RestrictedTransition, SelectedTransition
from tokenrank_guidance.markov.logits import Logits
from tokenrank_guidance.markov.mask import Mask
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.precision import compute_dtype, full_precision

Chunk = tuple[slice, slice, Float[Tensor, "heads rows n"]]


@dataclass(frozen=True, eq=False)
class AttentionGradient:
    """One layer's attention O = A V with A = softmax(scale q kᵀ + mask), and ∂y/∂O of some number y.

    From them ∂y/∂A = ∂y/∂O Vᵀ, of rank `dim`: no map, and no graph through one, has to be kept. All are
    (batch, heads, tokens, dim).
    """

    q: Float[Tensor, "batch heads n dim"]
    k: Float[Tensor, "batch heads n dim"]
    v: Float[Tensor, "batch heads n value"]
    output: Float[Tensor, "batch heads n value"]
    scale: float
    mask: Shaped[Tensor, "..."] | None = None

    def __post_init__(self) -> None:
        if self.q.ndim != 4 or self.q.shape != self.k.shape or self.v.shape != self.output.shape:
            shapes = ", ".join(str(tuple(one.shape)) for one in (self.q, self.k, self.v, self.output))
            raise ValueError(
                f"q, k, v and the output's gradient: got shapes {shapes}, expected 4 axes, alike"
            )
        if not all(bool(side.isfinite().all()) for side in (self.v, self.output)):
            raise ValueError("v or the output's gradient is not finite; in half precision it may overflow")

    def weighted(self) -> Iterator[Chunk]:
        """(∂y/∂A ⊙ A)⁺ of each image and head in chunks of rows: (chains, rows, values)."""
        mask = None if self.mask is None else Mask.of(self.mask, tuple(self.q.shape[:2]), self.q.shape[2])
        logits = Logits(self.q, self.k, self.scale, mask)
        v, grad = (side.detach().flatten(0, 1).to(logits.q.dtype) for side in (self.v, self.output))
        for chains, rows, chunk in logits.chunks():
            weights = chunk.sub_(chunk.amax(-1, keepdim=True)).exp2_()
            weights /= weights.sum(-1, keepdim=True)
            yield chains, rows, weights.mul_(grad[chains, rows] @ v[chains].mT).clamp_(min=0)


class GradientTransition(TransitionOperator):
    """``P ∝ sum_l mean_h (∂y/∂A ⊙ A)⁺``, rows normalised, (batch, n, n): attention that raises y, as a chain.

    y is such as the logit of the class that an image is taken for; l runs over ``layers``, h over their
    heads. A row without any such attention goes anywhere alike. Products take one pass over queries, keys,
    values and gradients of all layers, in O(n) memory. Source: the weights of Chefer et al. 2021 (arXiv
    2103.15679, eq. 5), read as a chain.
    """

    def __init__(self, layers: Sequence[AttentionGradient]) -> None:
        shapes = {(one.q.shape[0], one.q.shape[2]) for one in layers}
        if len(shapes) != 1:
            raise ValueError(f"layers: got (images, tokens) of {sorted(shapes) or 'none'}, expected one")
        self._layers = tuple(layers)
        ((self._batch, self._n),) = shapes

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._batch, self._n, self._n)

    @property
    def dtype(self) -> torch.dtype:
        return compute_dtype(self._layers[0].q.dtype)

    @property
    def device(self) -> torch.device:
        return self._layers[0].q.device

    @cached_property
    def row_sums(self) -> Float[Tensor, "batch n"]:
        """Of the weights, before rows are normalised: how much each token's attention matters."""
        return self._right(torch.ones(self._batch, 1, self._n, dtype=self.dtype, device=self.device))[:, 0]

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        stack, back = self._stacked(x)
        lost = self.row_sums == 0
        shares = torch.where(lost, 0.0, 1 / torch.where(lost, 1.0, self.row_sums))
        moved = self._left(stack * shares[:, None])
        return back(moved + (stack * lost[:, None]).sum(-1, keepdim=True) / self._n)

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        stack, back = self._stacked(y)
        lost = (self.row_sums == 0)[:, None]
        means = self._right(stack) / torch.where(lost, 1.0, self.row_sums[:, None])
        return back(torch.where(lost, stack.mean(-1, keepdim=True), means))

    def restrict(self, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> TransitionOperator:
        return RestrictedTransition(self, tokens)

    def select(self, chains: Int[Tensor, "*k"]) -> TransitionOperator:
        return SelectedTransition(self, chains)

    def mix(self, head_weights: Float[Tensor, "*weights heads"]) -> TransitionOperator:
        return MixtureTransition(self, head_weights)

    def to_dense(self) -> Float[Tensor, "batch n n"]:
        total = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        for images, heads, rows, chunk in self._chunks():
            total[images, rows] += chunk.to(self.dtype) / heads
        lost = (self.row_sums == 0)[..., None]
        return torch.where(lost, 1 / self._n, total / torch.where(lost, 1.0, self.row_sums[..., None]))

    def relevance(self, start: Float[Tensor, "*start n"]) -> Float[Tensor, "*out n"]:
        """Chefer's rollout: the start's row of ``prod_l (I + mean_h (∂y/∂A ⊙ A)⁺)``, last layer first.

        Without a chain: no row is normalised. Source: arXiv 2103.15679, eq. 6.
        """
        return self._as_vector(start) + self.gained(start)

    @torch.no_grad()
    def gained(self, start: Float[Tensor, "*start n"]) -> Float[Tensor, "*out n"]:
        """`relevance` less the start itself, however small beside it: what attention adds."""
        x = self._as_vector(start).expand(self._batch, self._n)
        gained = torch.zeros_like(x)
        for layer in reversed(self._layers):
            gained = gained + GradientTransition([layer])._left((x + gained)[:, None])[:, 0]
        return gained

    def _left(self, x: Float[Tensor, "batch m n"]) -> Float[Tensor, "batch m n"]:
        out = torch.zeros_like(x)
        for image, heads, rows, chunk in self._chunks():
            out[image] += x[image, :, rows] @ chunk.to(x.dtype) / heads
        return out

    def _right(self, y: Float[Tensor, "batch m n"]) -> Float[Tensor, "batch m n"]:
        out = torch.zeros_like(y)
        for image, heads, rows, chunk in self._chunks():
            out[image, :, rows] += y[image] @ chunk.to(y.dtype).mT / heads
        return out

    @torch.no_grad()
    def _chunks(self) -> Iterator[tuple[int, int, slice, Float[Tensor, "rows n"]]]:
        """(image, heads, rows, the sum of a chunk's heads)."""
        for layer in self._layers:
            heads = layer.q.shape[1]
            with full_precision(self.device):
                for chains, rows, chunk in layer.weighted():
                    for image in range(chains.start // heads, -(-(chains.start + len(chunk)) // heads)):
                        first = max(0, image * heads - chains.start)
                        yield image, heads, rows, chunk[first : (image + 1) * heads - chains.start].sum(0)

    def _stacked(self, x: Shaped[Tensor, "*x n"]):
        """As (batch, m, n), and the way back to how it came."""
        vector = self._as_vector(x)
        lead = torch.broadcast_shapes(vector.shape[:-1], (self._batch,))
        wide = vector.expand(*lead, self._n)
        flat = wide.reshape(-1, self._batch, self._n).transpose(0, 1)
        return flat, lambda out: out.transpose(0, 1).reshape(*lead, self._n)
