"""Attention maps to segment: random, structured and real."""

import torch

from tokenrank_guidance.capture import AttentionRecord


def record(grid, heads=2, batch=1, seed=0, sharpness=3.0, dtype=torch.float64):
    """Random smooth attention: queries and keys vary over the grid, so that neighbours attend alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch * heads, 8, 4, 4, generator=generator, dtype=torch.float64)
    fine = torch.nn.functional.interpolate(coarse, grid, mode="bicubic", align_corners=False)
    q = fine.flatten(2).mT.unflatten(0, (batch, heads)).to(dtype)
    return AttentionRecord(q, q, sharpness / 8**0.5, module=f"layer{seed}", grid=grid)


def blocks(sizes, leak=0.02, seed=0, noise=0.2, dtype=torch.float64):
    """A chain of nearly uncoupled blocks: each mixes inside in one step and leaks `leak` everywhere."""
    n = sum(sizes)
    matrix = torch.zeros(n, n, dtype=dtype)
    start = 0
    for size in sizes:
        matrix[start : start + size, start : start + size] = 1 / size
        start += size
    generator = torch.Generator().manual_seed(seed)
    matrix = matrix * (1 + noise * torch.rand(n, n, generator=generator, dtype=dtype))
    matrix = matrix / matrix.sum(-1, keepdim=True)
    return (1 - leak) * matrix + leak / n


def image(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
