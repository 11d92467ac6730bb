"""Other ways to walk: against attention, and through the chains of several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.checks import is_number
from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.dense import DenseTransition
from tokenrank_guidance.markov.distribution import normalise


def incoming_chain(maps: Maps) -> DenseTransition:
    """The chain of who attends to a token, ``P_in[j, i] = P[i, j] / sum_i P[i, j]``, of each head apart.

    A token that nobody attends to stays where it is. Its steps are those of ``direction="incoming"`` in
    `multi_bounce`, without a matrix there; here it is a chain of its own, ``n**2`` memory each, whose
    stationary distribution can be asked for.
    """
    received = as_operator(maps).to_dense().transpose(-1, -2)
    sums = received.sum(-1, keepdim=True)
    attended = sums >= torch.finfo(received.dtype).tiny
    staying = torch.eye(received.shape[-1], dtype=received.dtype, device=received.device)
    return DenseTransition(torch.where(attended, received / torch.where(attended, sums, 1.0), staying))


def rollout(
    layers: Sequence[Maps], start: Float[Tensor, "*start tokens"] | None = None, staying: float = 0.5
) -> Float[Tensor, "*batch tokens"]:
    """Attention rollout ``start A_L ... A_1``, ``A = s I + (1 - s) P``, P a layer's mean head; sums to 1.

    ``layers`` in running order, of equally many tokens. ``start`` are weights ``(*batch, tokens)``, which are
    normalised, by default even over the tokens: that gives the mean of the product's rows. As a row vector
    goes through the layers from the last to the first, no product of two maps is made. ``ValueError`` for no
    layer, for unequal ones, and for ``staying`` outside [0, 1]. Source: Abnar and Zuidema 2020, arXiv
    2005.00928.
    """
    chains = [as_operator(maps) for maps in layers]
    counts = {chain.n for chain in chains}
    if len(counts) != 1:
        raise ValueError(f"layers: got chains of {sorted(counts) or 'no'} tokens, expected as many in each")
    if not (is_number(staying) and 0 <= staying <= 1):
        raise ValueError(f"staying: got {staying!r}, expected a number in [0, 1]")
    last = chains[-1]
    even = torch.full((last.n,), 1 / last.n, dtype=last.dtype, device=last.device)
    x = even if start is None else normalise(start.to(last.device, last.dtype), "start")
    if x.shape[-1] != last.n:
        raise ValueError(f"start: shape {tuple(x.shape)}, expected (..., {last.n})")
    for chain in reversed(chains):
        heads = chain.batch_shape != ()
        attended = chain.apply(x.unsqueeze(-2)).mean(-2) if heads else chain.apply(x)
        x = staying * x + (1 - staying) * attended
    return x
