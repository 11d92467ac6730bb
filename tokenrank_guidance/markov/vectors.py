"""Vectors of any leading axes, stacked for a product with a stack of chains."""

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.shapes import broadcast_shapes

StackedProduct = Callable[[Float[Tensor, "chains m n"]], Float[Tensor, "chains m n"]]


def per_chain(
    product: StackedProduct, x: Float[Tensor, "*x n"], batch: tuple[int, ...]
) -> Float[Tensor, "*out n"]:
    """Run a product of ``m`` vectors for each chain on vectors whose leading axes broadcast with ``batch``.

    Axes along which the chain is the same are the ``m``: one pass over the chain serves them all.
    """
    shape = broadcast_shapes(x.shape[:-1], batch)
    chains = (1,) * (len(shape) - len(batch)) + tuple(batch)
    order = sorted(range(len(shape)), key=lambda axis: chains[axis] == 1)
    x = x.expand(*shape, x.shape[-1]).permute(*order, len(shape))
    out = product(x.reshape(math.prod(batch), -1, x.shape[-1])).view(x.shape)
    back = sorted(range(len(shape)), key=order.__getitem__)
    return out.permute(*back, len(shape))
