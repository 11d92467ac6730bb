"""Products with attention, from queries and keys, in chunks of rows."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.logits import Logits
from tokenrank_guidance.markov.mask import LOG2_E


class ChunkedProducts:
    """``P = softmax(logits)``, ``(chains, n, n)``: its products, one pass over Q and K each.

    ``P[i, j] = 2**(logits[i, j] - peak[i]) / total[i]``. The first pass finds the row maxima and sums, as it
    goes. They stay apart: their log-sum-exp would round away what is small beside a saturated maximum.
    """

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self._peak = logits.q.new_empty(logits.chains, logits.n, 1)
        self._share = torch.empty_like(self._peak)  # 1 / total
        self._known = False

    @property
    def in_float64(self) -> bool:
        """Whether the logits need it: see `Logits`."""
        return self._peak.dtype == torch.float64

    def left(self, x: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        """``x @ P``."""
        out = torch.zeros_like(x, dtype=self._peak.dtype)
        for chains, rows, weights in self._weights():
            shares = x[chains, :, rows] * self._share[chains, rows].mT
            out[chains].baddbmm_(shares, weights)
        return out.to(x.dtype)

    def right(self, y: Float[Tensor, "chains m n"]) -> Float[Tensor, "chains m n"]:
        """``y @ P.T``."""
        out = torch.empty_like(y)
        exact = y.to(self._peak.dtype)
        for chains, rows, weights in self._weights():
            out[chains, :, rows] = exact[chains] @ weights.mT * self._share[chains, rows].mT
        return out

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "chains n n"]:
        """``P``."""
        out = self._peak.new_empty(self._logits.chains, self._logits.n, self._logits.n, dtype=dtype)
        for chains, rows, weights in self._weights():
            torch.mul(weights, self._share[chains, rows], out=out[chains, rows])
        return out

    def mixed(self, head_weights: Float[Tensor, "groups heads"]) -> Float[Tensor, "groups n n"]:
        """``sum_h w_h P_h`` over runs of ``heads`` chains."""
        groups, heads = head_weights.shape
        out = head_weights.new_zeros(groups, self._logits.n, self._logits.n)
        for chains, rows, weights in self._weights():
            first, end = chains.start, chains.start + len(weights)
            shares = self._share[chains, rows] * head_weights.flatten()[chains, None, None]
            weighted = weights.mul_(shares)
            for group in range(first // heads, -(-end // heads)):
                own = slice(max(0, group * heads - first), (group + 1) * heads - first)
                out[group, rows] += weighted[own].sum(0)
        return out

    def gradient(
        self, x: Float[Tensor, "chains m n"], u: Float[Tensor, "chains m n"]
    ) -> tuple[Float[Tensor, "chains n dim"], Float[Tensor, "chains n dim"]]:
        """Derivatives of ``sum_m x_m P u_m`` with respect to q and k.

        With ``A = P * (x.T u)`` the logits get ``A - rowsum(A) P``. Holds two chunks.
        """
        q, k = self._logits.q, self._logits.k
        grad_q, grad_k = torch.zeros_like(q), torch.zeros_like(k)
        x, u = x.to(q.dtype), u.to(q.dtype)
        for chains, rows, weights in self._weights():
            p = weights.mul_(self._share[chains, rows])
            grad = (x[chains, :, rows].mT @ u[chains]).mul_(p)
            grad.sub_(p.mul_(grad.sum(-1, keepdim=True)))
            grad_q[chains, rows] = grad @ k[chains]
            grad_k[chains].baddbmm_(grad.mT, q[chains, rows])
        return grad_q.mul_(self._logits.scale), grad_k.div_(LOG2_E)  # q holds log2(e) * scale

    def _weights(self) -> Iterator[tuple[slice, slice, Float[Tensor, "chains rows n"]]]:
        for chains, rows, logits in self._logits.chunks():
            peak, share = self._peak[chains, rows], self._share[chains, rows]
            if not self._known:
                torch.amax(logits, -1, keepdim=True, out=peak)
            weights = logits.sub_(peak).exp2_()
            if not self._known:
                torch.sum(weights, -1, keepdim=True, out=share)
                share.reciprocal_()
            yield chains, rows, weights
        self._known = True
