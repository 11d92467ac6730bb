"""Walks over the text and image tokens of one layer, started at words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import (
    Arnoldi,
    TransitionOperator,
    solve_second_eigenvalue,
    stationary_distribution,
)

LAMBDA2_STEPS = 200
Starts = Float[Tensor, "concepts tokens"]


def starts_at(positions: Sequence[Int[Tensor, " _"]], text: slice, like: Tensor, tokens: int) -> Starts:
    """One row for each concept: even over its tokens, which are counted from the first text token on."""
    rows = torch.zeros(len(positions), tokens, dtype=like.dtype, device=like.device)
    for row, own in zip(rows, positions, strict=True):
        row[own.to(like.device) + text.start] = 1 / len(own)
    return rows


class Walks:
    """Everything asked of one record: its mixtures of heads and its walks, each made once.

    `starts` are distributions over all tokens of the record. Nothing of the size of a map is held beyond
    `memory` bytes: products come from queries and keys.
    """

    def __init__(self, record: AttentionRecord, starts: Starts, options: Options) -> None:
        self._operator = record.transition(memory=options.memory)
        self._starts = starts.to(self._operator.dtype)
        self._tol = options.lambda2_tol
        self._weights: dict[str, Tensor] = {}
        self._mixed: dict[str, TransitionOperator] = {}
        self._steps: dict[tuple[str, str, str], list[Tensor]] = {}

    def ends(self, options: Options) -> Starts:
        """Where the walk of the method ends, over all tokens; heads are averaged."""
        if options.method == "tokenrank":
            return self._limit(options).expand(len(self._starts), -1)
        direction, n = direction_of(options), steps_of(options)
        steps = self._steps.setdefault((options.head_weights, direction, options.mix), [])
        operator = self._mixture(options.head_weights) if options.mix == "before" else self._operator
        while len(steps) <= n:
            steps.append(self._next(operator, steps, direction))
        end = steps[n][:, 0]
        if options.mix == "before":
            return end
        return (self.weights(options.head_weights)[0, :, None] * end).sum(-2)

    def weights(self, head_weights: str) -> Float[Tensor, "1 heads"]:
        """w_h = λ2_h / Σ λ2, of each head by itself, or 1 / heads."""
        if head_weights not in self._weights:
            moduli = torch.ones(self._operator.batch_shape, dtype=self._operator.dtype)
            if head_weights == "lambda2":
                solver = Arnoldi(tol=self._tol, max_steps=LAMBDA2_STEPS, raise_on_failure=False)
                moduli = solve_second_eigenvalue(self._operator, solver).value
                moduli = torch.where((moduli == 0).all(-1, keepdim=True), 1.0, moduli)
            self._weights[head_weights] = (moduli / moduli.sum(-1, keepdim=True)).to(self._operator.device)
        return self._weights[head_weights]

    def _limit(self, options: Options) -> Float[Tensor, "1 tokens"]:
        """TokenRank, where damped walks end after ever more steps, whatever the word."""
        if options.mix == "before":
            return stationary_distribution(self._mixture(options.head_weights)).value
        apart = stationary_distribution(self._operator).value
        return (self.weights(options.head_weights)[..., None] * apart).sum(-2)

    def _mixture(self, head_weights: str) -> TransitionOperator:
        if head_weights not in self._mixed:
            self._mixed[head_weights] = self._operator.mix(self.weights(head_weights))
        return self._mixed[head_weights]

    def lazy_step(self, x: Starts, head_weights: str) -> Starts:
        """½ x + ½ x P, a step of attention rollout."""
        return (x + self._mixture(head_weights).apply(x.to(self._operator.dtype)[:, None])[:, 0]) / 2

    def _next(self, operator: TransitionOperator, steps: list[Tensor], direction: str) -> Tensor:
        if not steps:
            lead = (len(self._starts), *(1,) * len(operator.batch_shape))
            return self._starts.view(*lead, -1).expand(-1, *operator.batch_shape, -1)
        return operator.apply(steps[-1]) if direction == "outgoing" else operator.apply_incoming(steps[-1])


def direction_of(options: Options) -> str:
    """ "row" goes where the word attends, "column" to who attends to it."""
    return {"row": "outgoing", "column": "incoming"}.get(options.method, options.direction)


def steps_of(options: Options) -> int:
    """ "row" and "column" are one step."""
    return 1 if options.method in ("row", "column") else options.n
