"""Eigenvalues of a chain on vectors that sum to 0, from products with it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenrank_guidance.checks import is_number, is_whole
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.precision import float64_on_cpu

CHECKS = 4


@dataclass(frozen=True)
class Arnoldi:
    """When to stop looking for an eigenvalue, and how much memory to do it in.

    ``tol`` bounds the residual ``|x P - z x|`` of a unit vector relative to ``|z|``: for a normal chain the
    relative error of ``z``, for others that is up to the condition of ``z`` times as much. The basis holds
    ``basis`` vectors for each chain; it is looked at ``CHECKS`` times while it fills (a host sync each), and
    once full keeps the ``keep`` leading eigenvectors and their conjugates. ``max_steps`` bounds the products.
    """

    tol: float = 1e-4
    max_steps: int = 1000
    basis: int = 32
    keep: int = 6
    raise_on_failure: bool = True

    def __post_init__(self) -> None:
        if not (is_number(self.tol) and self.tol > 0):
            raise ValueError(f"tol: got {self.tol!r}, expected a positive number")
        for name in ("max_steps", "basis", "keep"):
            if not is_whole(getattr(self, name), 0):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a whole number")
        if not 1 <= self.keep <= (self.basis - 1) // 2:
            raise ValueError(
                f"keep: got {self.keep} for a basis of {self.basis}, expected 1 to half of one less than that"
            )
        if self.max_steps < self.basis:
            raise ValueError(f"max_steps: got {self.max_steps}, expected at least the basis of {self.basis}")


class Krylov:
    """``V P = H V + b f``: an orthonormal basis V of row vectors that sum to 0, one for each chain.

    The rows of V and the columns and rows of H beyond an invariant subspace are zero. They stand for
    eigenvalues of zero, which are never the largest.
    """

    def __init__(self, operator: TransitionOperator, size: int) -> None:
        self._operator = operator
        self._size = size
        self._used = self.products = 0
        self.chains = math.prod(operator.batch_shape)
        like = {"dtype": operator.dtype, "device": operator.device}
        self._basis = torch.zeros(self.chains, size + 1, operator.n, **like)
        self._hessenberg = torch.zeros(self.chains, size + 1, size, **like)
        start = torch.randn(operator.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        start = start - start.mean()
        self._basis[:, 0] = start / start.norm().clamp_min(1e-300)

    def select(self, chains: Int[Tensor, " k"]) -> None:
        """Go on with some of the chains."""
        if len(chains) > 0:
            self._operator = self._operator.select(chains)
        self._basis, self._hessenberg = self._basis[chains], self._hessenberg[chains]

    @property
    def full(self) -> bool:
        return self._used == self._size

    @property
    def complete(self) -> bool:
        """Whether the basis is all there is, so that what it leaves is rounding."""
        return self._used == self._operator.n

    def extend(self, count: int) -> None:
        """Lengthen the basis by ``count`` products, or until it is full."""
        end = min(self._used + count, self._size)
        for j in range(self._used, end):
            image = self._apply(self._basis[:, j]).unsqueeze(-2)
            image = image - image.mean(-1, keepdim=True)
            self.products += 1
            before = image.norm(dim=-1, keepdim=True)
            basis = self._basis[:, : j + 1]
            for _ in range(2):
                shares = image @ basis.mT  # rows times matrices: many times faster than columns
                image = torch.baddbmm(image, shares, basis, alpha=-1)
                self._hessenberg[:, : j + 1, j] += shares.squeeze(-2)
            norm = image.norm(dim=-1, keepdim=True)
            new = norm > 10 * torch.finfo(norm.dtype).eps * before  # else what is left is rounding
            self._basis[:, j + 1] = torch.where(new, image / norm, 0.0).squeeze(-2)
            self._hessenberg[:, j + 1, j] += torch.where(new, norm, 0.0).squeeze(-1, -2)
        self._used = end

    def _apply(self, x: Float[Tensor, "chains n"]) -> Float[Tensor, "chains n"]:
        return self._operator.apply(x.view(*self._operator.batch_shape, -1)).reshape(x.shape)

    def leading(
        self, count: int
    ) -> tuple[Float[Tensor, " chains"], Float[Tensor, " chains"], Float[Tensor, "chains used kept"]]:
        """Modulus and residual of the leading eigenvalue, and an orthonormal basis of the ``count`` leading.

        Of a conjugate pair one counts, and both are in the basis, whose unused columns are zero.
        """
        matrix, border = self._small()
        values, vectors = torch.linalg.eig(matrix)
        rank = torch.where(values.imag >= 0, values.abs(), -1.0)
        order = rank.topk(min(count, (self._used + 1) // 2), dim=-1).indices
        moduli = values.abs().gather(-1, order[..., :1]).squeeze(-1)
        chosen = vectors.gather(-1, order.unsqueeze(-2).expand(*vectors.shape[:-1], -1))
        residual = (border.unsqueeze(-2).to(chosen.dtype) @ chosen[..., :1]).abs().squeeze(-1, -2)
        return moduli, residual, _orthonormal(torch.cat([chosen.real, chosen.imag], -1))

    def restart(self, kept: Float[Tensor, "chains used kept"]) -> None:
        """Keep, of a full basis, the span of some eigenvectors of H and the vector that continues it."""
        matrix, border = self._small()
        count = kept.shape[-1]
        small = torch.cat([kept.mT @ matrix @ kept, (border.unsqueeze(-2) @ kept)], -2)
        rotated = kept.mT.to(self._basis) @ self._basis[:, :-1]
        last = self._basis[:, -1].clone()
        self._basis.zero_()
        self._hessenberg.zero_()
        self._basis[:, :count], self._basis[:, count] = rotated, last
        self._hessenberg[:, : count + 1, :count] = small.to(self._hessenberg)
        self._used = count

    def _small(self) -> tuple[Float[Tensor, "chains used used"], Float[Tensor, "chains used"]]:
        # On the CPU: LAPACK has the general eigensolver everywhere, and some accelerators have no float64.
        used = self._used
        whole = float64_on_cpu(self._hessenberg[:, : used + 1, :used])
        return whole[..., :-1, :], whole[..., -1, :]


def _orthonormal(columns: Float[Tensor, "chains size k"]) -> Float[Tensor, "chains size rank"]:
    """min(size, k) orthonormal columns that span the same space, the last ones zero where it is smaller."""
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    return u * (s > 1e-10 * s[..., :1]).unsqueeze(-2)
