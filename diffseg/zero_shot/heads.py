"""Heads of one layer, or of all layers and passes, as the chain that walks go over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.markov import (
    Arnoldi,
    DampedTransition,
    DenseTransition,
    IncomingTransition,
    SumTransition,
    TransitionOperator,
    solve_second_eigenvalue,
)

LAMBDA2_STEPS = 200
LEAST = 1e-9  # of a head's λ2: heads without structure count alike where there are no others
Kind = tuple[str, bool]  # head weights, and whether keys choose queries


@runtime_checkable
class Chains(Protocol):
    """What walks go over: see `Options` for `head_weights`, `mix` and `damping`."""

    @property
    def dtype(self) -> torch.dtype: ...

    def chain(self, options: Options) -> TransitionOperator:
        """Of batch (1,), or (1, heads) where each head walks alone."""
        ...

    def weights(self, options: Options) -> Float[Tensor, "1 heads"]:
        """Those of heads that walk alone."""
        ...


class LayerChains:
    """The heads of one record. Matrices are held up to `memory` bytes."""

    def __init__(self, record: AttentionRecord, options: Options) -> None:
        self._heads = _Heads(record, options.memory, options.lambda2_tol)
        self._mixed = cache(self._mix)

    @property
    def dtype(self) -> torch.dtype:
        return self._heads.operator(False).dtype

    def chain(self, options: Options) -> TransitionOperator:
        kind = kind_of(options)
        chain = self._heads.operator(kind[1]) if options.mix == "heads" else self._mixed(kind)
        return finished(chain, options)

    def weights(self, options: Options) -> Float[Tensor, "1 heads"]:
        """w_h = λ2_h / Σ λ2, of each head by itself, or 1 / heads."""
        moduli = self._heads.moduli(options.head_weights)
        return moduli / moduli.sum(-1, keepdim=True)

    def _mix(self, kind: Kind) -> TransitionOperator:
        return self._heads.operator(kind[1]).mix(self._heads.moduli(kind[0]))


class OneChain:
    """All heads of all layers and passes as one chain: Σ w_lh P_lh / Σ w_lh, w being λ2 or 1 of each head.

    Where such a matrix fits in `memory` bytes it is summed up as layers come; else their queries and keys are
    kept, in memory that grows with the tokens and not with their square.
    """

    def __init__(self, options: Sequence[Options]) -> None:
        self._kinds = list(dict.fromkeys(map(kind_of, options)))
        self._memory, self._tol = options[0].memory, options[0].lambda2_tol
        self._parts: dict[Kind, _Parts] = {kind: _Parts() for kind in self._kinds}
        self._like: AttentionRecord | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self._parts[self._kinds[0]].value().dtype

    def add(self, record: AttentionRecord) -> None:
        """Take in one layer of one pass; UnsupportedError where its tokens are not those of the others."""
        if self._like is not None and _tokens(record) != _tokens(self._like):
            raise UnsupportedError(
                f"{record.module} has {record.tokens} tokens and {self._like.module} {self._like.tokens}, or "
                "in another order, so they are no one chain: mix='layers' walks over each"
            )
        self._like = replace(record, q=record.q[:, :0], k=record.k[:, :0], mask=None)
        heads = _Heads(record, self._memory, self._tol)
        for kind, parts in self._parts.items():
            moduli = heads.moduli(kind[0])
            parts.add(heads.operator(kind[1]).mix(moduli), float(moduli.sum()))

    def chain(self, options: Options) -> TransitionOperator:
        return finished(self._parts[kind_of(options)].value(), options)

    def weights(self, options: Options) -> Float[Tensor, "1 heads"]:
        raise AssertionError("heads are mixed already")

    @property
    def record(self) -> AttentionRecord | None:
        """Which token is what; no queries and keys."""
        return self._like


class _Parts:
    """A weighted sum of chains, matrices added up."""

    def __init__(self) -> None:
        self._matrix: Tensor | None = None
        self._weight = 0.0
        self._rest: list[tuple[TransitionOperator, float]] = []

    def add(self, chain: TransitionOperator, weight: float) -> None:
        if not isinstance(chain, DenseTransition):
            self._rest.append((chain, weight))
            return
        weighted = weight * chain.to_dense()
        self._matrix = weighted if self._matrix is None else self._matrix.add_(weighted)
        self._weight += weight

    def value(self) -> TransitionOperator:
        parts = list(self._rest)
        if self._matrix is not None:
            parts.append((DenseTransition.trusted(self._matrix / self._weight), self._weight))
        if len(parts) == 1:
            return parts[0][0]
        return SumTransition([chain for chain, _ in parts], torch.tensor([weight for _, weight in parts]))


class _Heads:
    """One record's heads as chains, each way they are asked for made once."""

    def __init__(self, record: AttentionRecord, memory: int, tol: float) -> None:
        self._record, self._memory, self._tol = record, memory, tol
        self.operator: Callable[[bool], TransitionOperator] = cache(self._operator)
        self.moduli: Callable[[str], Tensor] = cache(self._moduli)

    def _operator(self, keyed: bool) -> TransitionOperator:
        """Of heads, (1, heads); `keyed`: softmax over the queries, whose rows are keys."""
        record = swapped(self._record) if keyed else self._record
        return record.transition(memory=self._memory)

    def _moduli(self, head_weights: str) -> Float[Tensor, "1 heads"]:
        operator = self.operator(False)
        if head_weights != "lambda2":
            return torch.ones(operator.batch_shape, dtype=operator.dtype, device=operator.device)
        solver = Arnoldi(tol=self._tol, max_steps=LAMBDA2_STEPS, raise_on_failure=False)
        return solve_second_eigenvalue(operator, solver).value.clamp_min(LEAST).to(operator.device)


def swapped(record: AttentionRecord) -> AttentionRecord:
    """Keys in place of queries: row j of its map is the softmax over queries of column j of the logits."""
    mask = record.mask
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], record.tokens, record.tokens).mT
    return replace(record, q=record.k, k=record.q, mask=mask)


def finished(chain: TransitionOperator, options: Options) -> TransitionOperator:
    """From keys back to queries, and with an even teleport, where the options have it so."""
    if options.method == "keyed":
        chain = IncomingTransition(chain)
    return chain if options.damping == 1 else DampedTransition(chain, options.damping)


def kind_of(options: Options) -> Kind:
    """What makes two options' mixtures different."""
    return options.head_weights, options.method == "keyed"


def _tokens(record: AttentionRecord) -> tuple[object, ...]:
    return record.tokens, record.grid, record.image, record.text
