"""Comparing what a pipeline's scheduler is given with what its denoiser was given and returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sag.call import DenoiserCall
from tokenrank_guidance.markov.precision import float64_on_cpu

LEAST = 1e-4  # relative: what float32 loses on the way is far below
VALUES = 4096  # of each channel, for the least squares


@dataclass(frozen=True, eq=False)
class Mark:
    """One guided call of a step: its `place` among the step's latents, its parts' noisy inputs and outputs.

    `direction` is what every part was moved by, to see whether that comes out. `stepped` makes of all these
    what the scheduler is given, `sign` times the outputs. What is `held` is given anew at every step: neither
    it nor what is predicted of it need be the scheduler's.
    """

    place: int
    call: DenoiserCall
    inputs: Sequence[Float[Tensor, "images *latent"]]
    outputs: Sequence[Float[Tensor, "images *latent"]]
    direction: Float[Tensor, "images *latent"]
    stepped: Callable[[Tensor, Tensor], Tensor]
    sign: int
    held: Bool[Tensor, "images *latent"] | None


class Step:
    """The marked calls of one step, whose images the scheduler is given in the order of their places."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._marks = marks
        self._places = sorted({mark.place for mark in marks})
        self._call = marks[0].call
        self.converted = bool(self._call.predicts)
        self.columns = max(len(self._outputs(place)) for place in self._places)

    def was_given(self, scaled: Float[Tensor, "rows *any"]) -> bool:
        """Whether every part's noisy input is the scheduler's scaled sample."""
        parts = range(self._call.parts.count)
        scaled = self._of_drawn(scaled)
        return all(
            self._agrees(scaled, lambda mark, part=part: mark.inputs[part] * _drawn(mark)) for part in parts
        )

    def moved(self, tangent: Float[Tensor, "rows *any"]) -> bool:
        """Whether what the scheduler is given moves as all parts do, times any number if it is converted."""
        tangent = self._of_drawn(tangent)
        share = self.share(tangent) if self.converted else 1.0
        return share != 0 and self._agrees(tangent / share, _moved)

    def share(self, tangent: Float[Tensor, "rows *any"]) -> float:
        """How much of the movement of all parts comes out, in their direction."""
        wanted = self._rows(tangent, _moved)
        if wanted is None:
            return float("nan")
        found, wanted = self._common(tangent, wanted)
        return ((found * wanted).sum() / wanted.square().sum()).item()

    def combines(self, model_output: Float[Tensor, "rows *any"]) -> bool:
        """Whether weights that sum to 1, the same for all values of a channel, make it of the outputs.

        In videos, for all values of a channel of a frame. By least squares on some thousand values, in
        float64 on the CPU, where rank-deficient systems are solved. Weights that differ from value to value
        may sum to 1 as well, but are not found.
        """
        model_output = self._of_drawn(model_output)
        stacked = [
            self._rows(model_output, lambda mark, column=column: self._outputs(mark.place)[column])
            for column in range(self.columns)
        ]
        pairs = [self._common(model_output, rows) for rows in stacked if rows is not None]
        if len(pairs) < self.columns:
            return False
        columns = [self._by_channel(rows) for _, rows in pairs]
        base, *others = columns
        left = self._by_channel(pairs[0][0]) - base
        if others:
            matrix = torch.stack([other - base for other in others], -1)
            weights = torch.linalg.lstsq(matrix, left[..., None], driver="gelsd").solution
            left = left - (matrix @ weights)[..., 0]
        size = max(column.abs().max().item() for column in columns)
        return left.abs().max().item() <= 4 * len(columns) * _tolerance(model_output) * size

    def _outputs(self, place: int) -> list[Tensor]:
        marks = [mark for mark in self._marks if mark.place == place]
        return [mark.sign * out * _drawn(mark) for mark in marks for out in mark.outputs]

    def _of_drawn(self, given: Float[Tensor, "rows *any"]) -> Float[Tensor, "rows *any"]:
        """0 in place of what is given and not drawn."""
        drawn = self._rows(given, _drawn)
        return given if drawn is None or drawn.shape != given.shape else given * drawn

    def _rows(self, like: Tensor, value: Callable[[Mark], Tensor]) -> Tensor | None:
        """A value of every place's images, with as many rows as `like`; None if they do not fit."""
        firsts = [next(mark for mark in self._marks if mark.place == place) for place in self._places]
        rows = torch.cat([mark.stepped(value(mark), like) for mark in firsts])
        if len(rows) * self._call.parts.count == len(like):
            rows = self._call.parts.spread(rows)  # DiT steps both halves
        return rows if len(rows) == len(like) and rows.ndim == like.ndim else None

    def _agrees(self, given: Tensor, value: Callable[[Mark], Tensor]) -> bool:
        rows = self._rows(given, value)
        if rows is None:
            return False
        tolerance = max(_tolerance(given), _tolerance(rows))
        given, rows = self._common(given, rows)
        if given.shape != rows.shape:
            return False
        return bool((given - rows).square().mean().sqrt() <= tolerance * rows.square().mean().sqrt())

    def _common(self, given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Both without what but one has: learned sigma after the channels, reference images after tokens."""
        axes = {self._call.calling.channel_axis % given.ndim} | ({1} if given.ndim == 3 else set())
        for axis in axes:
            size = min(given.shape[axis], wanted.shape[axis])
            given, wanted = given.narrow(axis, 0, size), wanted.narrow(axis, 0, size)
        return given.to(torch.float32), wanted.to(torch.float32)

    def _by_channel(self, tensor: Tensor) -> Float[Tensor, "channels values"]:
        axes = (1, 2) if tensor.ndim == 5 else (self._call.calling.channel_axis,)
        rows = tensor.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1).flatten(1)
        return float64_on_cpu(rows[:, :: max(1, rows.shape[1] // VALUES)])


def _moved(mark: Mark) -> Float[Tensor, "images *latent"]:
    return mark.sign * mark.direction * _drawn(mark)


def _drawn(mark: Mark) -> Float[Tensor, "images *latent"]:
    """1, but 0 where the latents are given and not drawn."""
    ones = torch.ones_like(mark.direction)
    return ones if mark.held is None else ones.masked_fill(mark.held, 0)


def _tolerance(tensor: Tensor) -> float:
    return max(LEAST, 8 * torch.finfo(tensor.dtype).eps)
