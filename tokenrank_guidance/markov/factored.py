"""A chain whose matrix is a product of two thin ones: linear attention."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.markov.deferred import require
from tokenrank_guidance.markov.dense import DenseTransition
from tokenrank_guidance.markov.distribution import as_head_weights
from tokenrank_guidance.markov.operator import TransitionOperator, restricted_mass, token_index
from tokenrank_guidance.markov.precision import compute_dtype, full_precision
from tokenrank_guidance.markov.vectors import per_chain


class FactoredTransition(TransitionOperator):
    """``P[i, j] = a_i · b_j / sum_j a_i · b_j`` for non-negative ``a``, ``b`` of shape ``(*batch, n, dim)``.

    Held as a walk of two steps, from tokens to features and back: ``P = T E``, both row-stochastic, of shapes
    ``(*batch, n, r)`` and ``(*batch, r, n)``. A product costs 2nr, and no matrix is made. A row of zeros is a
    dangling node, which goes anywhere alike, as in PageRank: a feature of its own, so that r is dim + 1.
    Products run in float32 or better, and have derivatives with respect to a, b and the vector.

    ``ValueError`` for factors that differ in shape, that are not floating, not finite, or negative.
    Source: Katharopoulos et al. 2020 (linear attention), arXiv 2006.16236.
    """

    def __init__(self, a: Float[Tensor, "*batch n dim"], b: Float[Tensor, "*batch n dim"]) -> None:
        _check(a, b)
        dtype = compute_dtype(a.dtype)
        with full_precision(a.device):
            self._to_features, self._to_tokens = _two_steps(_scaled(a.to(dtype), -1), _scaled(b.to(dtype)))

    @classmethod
    def trusted(
        cls, to_features: Float[Tensor, "*batch n r"], to_tokens: Float[Tensor, "*batch r n"]
    ) -> "FactoredTransition":
        """Hold the two steps themselves, whose rows are known to sum to 1."""
        self = cls.__new__(cls)
        self._to_features, self._to_tokens = to_features, to_tokens
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._to_features.shape[:-1], self._to_features.shape[-2])

    @property
    def rank(self) -> int:
        """Number of features, r: the rank of the matrix is at most this."""
        return self._to_features.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        return self._to_features.dtype

    @property
    def device(self) -> torch.device:
        return self._to_features.device

    @property
    def requires_grad(self) -> bool:
        return self._to_features.requires_grad or self._to_tokens.requires_grad

    @property
    def holds_matrices(self) -> bool:
        """Whether the matrix is no larger than its factors."""
        return self.n <= 2 * self.rank

    def apply(self, x: Float[Tensor, "*x n"]) -> Float[Tensor, "*out n"]:
        there, back = self._stacks()
        with full_precision(self.device):
            return per_chain(lambda stack: stack @ there @ back, self._as_vector(x), self.batch_shape)

    def apply_transpose(self, y: Float[Tensor, "*y n"]) -> Float[Tensor, "*out n"]:
        there, back = self._stacks()
        with full_precision(self.device):
            return per_chain(lambda stack: stack @ back.mT @ there.mT, self._as_vector(y), self.batch_shape)

    def restrict(self, tokens: Int[Tensor, " k"] | Bool[Tensor, " n"]) -> "FactoredTransition":
        """The same features, of those tokens alone."""
        index = token_index(tokens, self.n).to(self.device)
        there, back = self._to_features[..., index, :], self._to_tokens[..., index]
        kept = back.sum(-1)
        mass = restricted_mass((there * kept.unsqueeze(-2)).sum(-1))
        there = there * kept.unsqueeze(-2) / mass.unsqueeze(-1)
        return self.trusted(there, _shares(back, kept.unsqueeze(-1)))

    def select(self, chains: Int[Tensor, "*k"]) -> "FactoredTransition":
        there, back = self._stacks()
        return self.trusted(there[chains], back[chains])

    def mix(self, head_weights: Float[Tensor, "*weights heads"]) -> "FactoredTransition":
        """All heads' features side by side."""
        weights = as_head_weights(head_weights, self)[..., None, None]
        there = (weights * self._to_features).movedim(-3, -2).flatten(-2)
        return self.trusted(there, self._to_tokens.flatten(-3, -2))

    def to_dense(self) -> Float[Tensor, "*batch n n"]:
        with full_precision(self.device):
            return self._to_features @ self._to_tokens

    def condensed(self) -> TransitionOperator:
        """The chain of features, ``E T``: it and ``T E`` have every eigenvalue but 0 in common."""
        if self.rank >= self.n:
            return self
        with full_precision(self.device):
            return DenseTransition.trusted(self._to_tokens @ self._to_features)

    def _stacks(self) -> tuple[Float[Tensor, "chains n r"], Float[Tensor, "chains r n"]]:
        n, rank = self.n, self.rank
        return self._to_features.reshape(-1, n, rank), self._to_tokens.reshape(-1, rank, n)


def _two_steps(
    a: Float[Tensor, "*batch n dim"], b: Float[Tensor, "*batch n dim"]
) -> tuple[Float[Tensor, "*batch n r"], Float[Tensor, "*batch r n"]]:
    total = b.sum(-2, keepdim=True)
    weighted = a * total
    mass = weighted.sum(-1, keepdim=True)
    dangling = mass < torch.finfo(mass.dtype).tiny
    there = torch.where(dangling, 0.0, weighted / torch.where(dangling, 1.0, mass))
    there = torch.cat([there, dangling.to(there.dtype)], -1)
    back = _shares(b.mT, total.mT)
    return there, torch.cat([back, torch.full_like(back[..., :1, :], 1 / back.shape[-1])], -2)


def _shares(
    values: Float[Tensor, "*batch r n"], totals: Float[Tensor, "*batch r 1"]
) -> Float[Tensor, "*batch r n"]:
    """Rows divided by their sums; even ones where there is nothing to share, at features that nobody has."""
    empty = totals < torch.finfo(totals.dtype).tiny
    return torch.where(empty, 1 / values.shape[-1], values / torch.where(empty, 1.0, totals))


def _scaled(x: Float[Tensor, "*batch n dim"], *axes: int) -> Float[Tensor, "*batch n dim"]:
    """Divided by the largest of each row, or of each chain, so that products and sums stay in range."""
    peak = x.detach().amax(axes or (-2, -1), keepdim=True)
    return x / torch.where(peak > 0, peak, 1.0)


def _check(a: Tensor, b: Tensor) -> None:
    shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
    if not (a.is_floating_point() and a.dtype == b.dtype):
        raise ValueError(f"a and b: dtypes {a.dtype} and {b.dtype}, expected one floating-point dtype")
    if a.shape != b.shape or a.ndim < 2 or a.numel() == 0:
        raise ValueError(
            f"a and b: shapes {shapes}, expected the same (..., n, dim), with at least one token"
        )
    bounds = torch.stack([*a.aminmax(), *b.aminmax()])
    holds = (bounds >= 0).all() & (bounds < math.inf).all()  # NaN fails either
    require(holds, lambda: _not_weights(bounds))


def _not_weights(bounds: Float[Tensor, "4"]) -> ValueError:
    low, high, lowest, highest = bounds.tolist()
    return ValueError(
        f"a and b: values in [{low:.4g}, {high:.4g}] and [{lowest:.4g}, {highest:.4g}], expected finite, "
        "non-negative ones, such as relu(q) and relu(k)"
    )
