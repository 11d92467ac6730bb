"""Walks over text and image tokens, started at words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffseg.zero_shot.heads import Chains, kind_of
from diffseg.zero_shot.options import Options
from tokenrank_guidance.markov import TransitionOperator, absorption, stationary_distribution

Starts = Float[Tensor, "concepts tokens"]
Ends = Float[Tensor, "concepts *chains tokens"]


def starts_at(positions: Sequence[Int[Tensor, " _"]], text: slice, like: Tensor, tokens: int) -> Starts:
    """One row for each concept: even over its tokens, which are counted from the first text token on."""
    rows = torch.zeros(len(positions), tokens, dtype=like.dtype, device=like.device)
    for row, own in zip(rows, positions, strict=True):
        row[own.to(like.device) + text.start] = 1 / len(own)
    return rows


class Walks:
    """Everything asked of some chains: their walks, each step made once.

    `starts` are distributions over all tokens, of which `image` are the image's.
    """

    def __init__(self, chains: Chains, starts: Starts, image: slice) -> None:
        self._chains, self._image = chains, image
        self._starts = starts.to(chains.dtype)
        self._steps: dict[tuple[object, ...], list[Tensor]] = {}
        self._ways = {
            "tokenrank": self._limit,
            "absorbing": self._caught,
            "image-bounce": self._in_the_image,
        }

    def ends(self, options: Options) -> Starts:
        """Where the walk of the method ends, over all tokens; of heads that walk alone, the mean."""
        way = self._ways.get(options.method, self._walked)
        ends = way(self._chains.chain(options), options).squeeze(1)
        if options.mix != "heads":
            return ends
        return (self._chains.weights(options)[0, :, None] * ends).sum(-2)

    def _walked(self, chain: TransitionOperator, options: Options) -> Ends:
        direction, n = direction_of(options), steps_of(options)
        key = (*kind_of(options), direction, options.mix, options.damping)
        steps = self._steps.setdefault(key, [self._begin(chain)])
        while len(steps) <= n:
            steps.append(
                chain.apply(steps[-1]) if direction == "outgoing" else chain.apply_incoming(steps[-1])
            )
        return steps[n]

    def _begin(self, chain: TransitionOperator) -> Ends:
        lead = (len(self._starts), *(1,) * len(chain.batch_shape))
        return self._starts.view(*lead, -1).expand(-1, *chain.batch_shape, -1)

    def _limit(self, chain: TransitionOperator, options: Options) -> Ends:
        """TokenRank, where damped walks end after ever more steps, whatever the word."""
        value = stationary_distribution(chain).value
        return value.expand(len(self._starts), *value.shape)

    def _in_the_image(self, chain: TransitionOperator, options: Options) -> Ends:
        """Column select of the word, then steps to who attends, within the image: x_j P_ij / Σ_i P_ij."""
        within = torch.zeros(chain.n, dtype=chain.dtype, device=chain.device)
        within[self._image] = 1
        received = chain.apply(within)
        x = within * chain.apply_incoming(self._begin(chain))
        for _ in range(options.n - 1):
            share = torch.where(received > 0, x / received, 0.0)
            x = within * chain.apply_transpose(share)
        return x

    def _caught(self, chain: TransitionOperator, options: Options) -> Ends:
        """The chance of each image token that a walk within the image ends at the word."""
        among = torch.arange(chain.n, device=chain.device)[self._image]
        targets = (self._begin(chain) > 0).to(chain.dtype)
        chances = absorption(chain, targets, among, options.survival)
        return chances.new_zeros(*chances.shape[:-1], chain.n).index_copy(-1, among, chances)


def direction_of(options: Options) -> str:
    """ "row" goes where the word attends, "column" to who attends to it."""
    fixed = {"row": "outgoing", "column": "incoming", "keyed": "outgoing"}
    return fixed.get(options.method, options.direction)


def steps_of(options: Options) -> int:
    """ "row" and "column" are one step."""
    return 1 if options.method in ("row", "column") else options.n
