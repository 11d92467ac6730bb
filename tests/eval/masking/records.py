"""Random attention records with a class token and registers, and their dense maps as numpy oracles."""

import numpy as np
import torch

from tokenrank_guidance.capture import AttentionRecord

GRID = (3, 4)
PATCHES = 12


def record(seed: int = 0, *, class_token: bool = True, registers: int = 2, batch: int = 2) -> AttentionRecord:
    g = torch.Generator().manual_seed(seed)
    prefix = int(class_token) + registers
    q, k = (torch.randn(batch, 2, prefix + PATCHES, 8, generator=g) * 1.5 for _ in range(2))
    return AttentionRecord(
        q,
        k,
        8**-0.5,
        module=f"layers.{seed}",
        grid=GRID,
        image=slice(prefix, prefix + PATCHES),
        class_token=0 if class_token else None,
        registers=slice(int(class_token), prefix),
    )


def maps(record: AttentionRecord, kept: list[int] | None = None) -> np.ndarray:
    """Softmax of the logits, (batch, heads, n, n), in float64; over the tokens `kept` alone."""
    q, k = record.q.double().numpy(), record.k.double().numpy()
    logits = record.scale * np.einsum("bhid,bhjd->bhij", q, k)
    if kept is not None:
        logits = logits[:, :, kept][..., kept]
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def mean_one(values: np.ndarray) -> np.ndarray:
    return values / values.mean(-1, keepdims=True)
