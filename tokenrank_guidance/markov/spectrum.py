"""How slowly a chain mixes."""

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.coerce import Maps, as_operator


def second_eigenvalue(maps: Maps) -> Float[Tensor, "*batch"]:
    """Modulus of the second-largest eigenvalue of the undamped ``P``, by a dense float64 eigensolve.

    One eigenvalue, the largest, is 1 and is left out; a complex pair counts by its modulus. A reducible or
    periodic chain gives 1, a chain of one token 0. Shape ``(*batch,)``, the chain's dtype and device.
    Near 1: a metastable, structured head; near 0: a noisy one. Source: arXiv 2507.17657.
    """
    operator = as_operator(maps)
    # On the CPU: LAPACK has the general eigensolver everywhere, and some accelerators have no float64.
    moduli = torch.linalg.eigvals(operator.to_dense().to("cpu", torch.float64)).abs()
    if operator.n == 1:
        return torch.zeros(operator.batch_shape, dtype=operator.dtype, device=operator.device)
    # A float32 row sums to 1 up to rounding, hence the clamp.
    second = moduli.topk(2, dim=-1).values[..., 1].clamp(max=1)
    return second.to(operator.device, operator.dtype)
