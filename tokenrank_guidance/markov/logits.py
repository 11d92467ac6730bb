"""Attention logits, never more than a chunk of rows at a time."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.deferred import defers, require
from tokenrank_guidance.markov.mask import LOG2_E, Mask
from tokenrank_guidance.markov.precision import compute_dtype, has_float64

# In one thread of a CPU a chunk should stay in the cache between the four passes over it. Several threads
# wait for the slowest in each pass, so few large ones cost less: on two cores, one of them busy, a bounce of
# 8,192 tokens took 12.4, 3.3, 1.2 and 0.85 s by chunks of 1, 4, 16 and 64 MiB (in one thread 0.7, 0.8,
# 0.85, 0.9). On a GPU launches cost more than passes: there a chunk takes this part of its memory: FLUX's 24
# heads of 4,608 tokens are 8 chunks where that is 80 GiB, 24 where it is 24 GiB.
CPU_CHUNK_BYTES = 4 * 2**20
SHARED_CHUNK_BYTES = 64 * 2**20
CHUNK_BYTES = 32 * 2**20
CHUNK_SHARE = 256
# Up to this many multiplications float64 costs less than asking a device whether it is needed.
UNASKED_PRODUCTS = 2**28
# A float32 logit of this size is off by up to 3e-5, and so is its probability; larger ones take float64.
SATURATED = 512.0


class Logits:
    """``log2(e) * (scale * q k.T + mask)``, ``(chains, n, n)``, by chunks of whole rows.

    To base 2, because exp2 takes a third of the time of exp on a CPU, and exp is 10 times slower again where
    it underflows. In float32 or better; in float64, on a device that has it, where ``scale * |q| |k|``
    exceeds ``SATURATED`` and for small chains where checks are deferred. ``ValueError`` for queries and keys
    that are not finite.
    """

    def __init__(
        self,
        q: Float[Tensor, "*batch n dim"],
        k: Float[Tensor, "*batch n dim"],
        scale: float,
        mask: Mask | None = None,
    ) -> None:
        n = q.shape[-2]
        bound = _bound(q, k, scale)
        require(bound.isfinite(), lambda: _not_finite(bound))
        unasked = defers(q.device) and q.numel() * n <= UNASKED_PRODUCTS
        exact = has_float64(q.device) and (unasked or bool(bound > SATURATED))
        dtype = torch.float64 if exact else compute_dtype(q.dtype)
        self.scale = scale
        self.q = q.detach().reshape(-1, n, q.shape[-1]).to(dtype) * (scale * LOG2_E)
        self.k = k.detach().reshape(-1, n, q.shape[-1]).to(dtype)
        self._mask = mask

    @property
    def chains(self) -> int:
        return self.q.shape[0]

    @property
    def n(self) -> int:
        return self.q.shape[1]

    def chunks(self) -> Iterator[tuple[slice, slice, Float[Tensor, "chains rows n"]]]:
        """Chains, rows and their logits, rows in the outer loop; the next chunk overwrites the tensor."""
        per_chunk, rows = self._chunk_shape()
        buffer = self.q.new_empty(per_chunk * rows * self.n)
        for i in range(0, self.n, rows):
            for chain in range(0, self.chains, per_chunk):
                chains, span = slice(chain, chain + per_chunk), slice(i, i + rows)
                q, k = self.q[chains, span], self.k[chains]
                out = buffer[: q.shape[0] * q.shape[1] * self.n].view(*q.shape[:2], self.n)
                torch.bmm(q, k.mT, out=out)
                if self._mask is not None:
                    self._mask.apply_(out, chains, span)
                yield chains, span, out

    def _chunk_shape(self) -> tuple[int, int]:
        most_rows = max(1, chunk_bytes(self.q.device) // (self.n * self.q.element_size()))
        return min(self.chains, max(1, most_rows // self.n)), min(self.n, most_rows)


def chunk_bytes(device: torch.device) -> int:
    """How many bytes of logits are made at a time on a device."""
    if device.type == "cuda":
        return max(CHUNK_BYTES, torch.cuda.get_device_properties(device).total_memory // CHUNK_SHARE)
    if device.type != "cpu":
        return CHUNK_BYTES
    return CPU_CHUNK_BYTES if torch.get_num_threads() == 1 else SHARED_CHUNK_BYTES


def _bound(q: Tensor, k: Tensor, scale: float) -> Float[Tensor, ""]:
    """``|scale| max|q| max|k|``: no logit is larger."""
    norms = [torch.linalg.vector_norm(side.detach(), dim=-1, dtype=compute_dtype(q.dtype)) for side in (q, k)]
    return abs(scale) * norms[0].amax() * norms[1].amax()


def _not_finite(bound: Float[Tensor, ""]) -> ValueError:
    return ValueError(
        f"q and k: |scale| * |q| * |k| is up to {float(bound)}, expected finite queries and keys"
    )
