"""Chains with known answers, and the brute-force answers themselves."""

import torch
from torch import Tensor

# The toy chain of the paper's poster.
TOY = torch.tensor(
    [
        [0.01, 0.04, 0.02, 0.85, 0.08],
        [0.82, 0.04, 0.07, 0.01, 0.06],
        [0.80, 0.07, 0.03, 0.05, 0.05],
        [0.06, 0.06, 0.03, 0.04, 0.81],
        [0.53, 0.03, 0.03, 0.06, 0.35],
    ],
    dtype=torch.float64,
)


def random_attention(
    *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, sharpness: float = 2.0
) -> Tensor:
    """Softmax of random logits, ``(*batch, n, n)`` for ``shape = (*batch, n)``."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(*shape, shape[-1], generator=generator, dtype=torch.float64)
    return logits.softmax(-1).to(dtype)


def random_weights(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Positive weights that do not sum to 1."""
    return (
        torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) + 0.1
    )


def cycle(n: int) -> Tensor:
    """``i -> i + 1``: periodic, every eigenvalue has modulus 1, uniform stationary distribution."""
    return torch.eye(n, dtype=torch.float64).roll(1, dims=1)


def birth_death(up: float, down: float) -> Tensor:
    """Two states: stationary ``(down, up) / (up + down)``, second eigenvalue ``1 - up - down``."""
    return torch.tensor([[1 - up, up], [down, 1 - down]], dtype=torch.float64)


def incoming(matrix: Tensor) -> Tensor:
    """``P_in[j, i] = P[i, j] / sum_i P[i, j]``, by its definition."""
    return (matrix / matrix.sum(-2, keepdim=True)).mT


def restricted(matrix: Tensor, tokens: Tensor) -> Tensor:
    """``P[tokens, tokens]``, rows renormalised."""
    block = matrix[..., tokens, :][..., :, tokens]
    return block / block.sum(-1, keepdim=True)


def damped_stationary(matrix: Tensor, damping: float, teleport: Tensor | None = None) -> Tensor:
    """Left eigenvector of the damped matrix, which is built here, to its eigenvalue 1."""
    n = matrix.shape[-1]
    teleport = torch.full((n,), 1 / n, dtype=torch.float64) if teleport is None else teleport.double()
    teleport = (teleport / teleport.sum(-1, keepdim=True)).unsqueeze(-2)
    google = damping * matrix.double() + (1 - damping) * teleport
    values, vectors = torch.linalg.eig(google.mT)
    top = (values - 1).abs().argmin(-1)
    vector = vectors.real.gather(-1, top[..., None, None].expand(*top.shape, n, 1)).squeeze(-1)
    return vector / vector.sum(-1, keepdim=True)
