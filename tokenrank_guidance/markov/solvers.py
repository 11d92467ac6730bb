"""How the damped chain is brought to its fixed point."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenrank_guidance.checks import is_number, is_whole
from tokenrank_guidance.markov.operator import TransitionOperator


@dataclass(frozen=True)
class Stationary:
    """Stationary distributions and how each was reached.

    ``residual`` is the L1 distance of the last step that the chain took, ``steps`` how many it took, each one
    product with the chain. A chain stops for itself once ``residual <= tol``, so its result does not depend
    on the others in its batch.
    """

    value: Float[Tensor, "*batch n"]
    converged: Bool[Tensor, "*batch"]
    steps: Int[Tensor, "*batch"]
    residual: Float[Tensor, "*batch"]


Propagate = Callable[[Float[Tensor, "*batch n"]], Float[Tensor, "*batch n"]]
Adjoint = Callable[[Float[Tensor, "*batch n"]], Stationary]
STUCK = 0.9


@dataclass(frozen=True)
class Solver(ABC):
    """How close to come to the fixed point, and what to do when that fails.

    ``tol`` bounds the L1 distance of a step from there, not the error: that is at most
    ``damping / (1 - damping)`` times as large, and rounding adds some ``eps / (1 - damping)`` on a chain that
    mixes slowly.
    """

    tol: float = 1e-6
    raise_on_failure: bool = True

    def __post_init__(self) -> None:
        if not (is_number(self.tol) and self.tol > 0):
            raise ValueError(f"tol: got {self.tol!r}, expected a positive number")

    @abstractmethod
    def solve(
        self,
        operator: TransitionOperator,
        damping: float,
        teleport: Float[Tensor, "*#batch n"],
        first: Float[Tensor, "*batch n"],
    ) -> tuple[Stationary, Adjoint]:
        """The fixed point of ``x <- d x P + (1 - d) v``, from ``first`` on, in the shape of ``first``.

        And what solves ``w = d P w + g`` for a ``g`` that sums to 0, for the derivative: up to a constant.
        """

    @property
    @abstractmethod
    def effort(self) -> str:
        """What it did, for an error's text."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What may help where it failed."""


@dataclass(frozen=True)
class Iteration(Solver):
    """When to stop iterating.

    As distances between two successive iterates shrink by ``damping`` a step, the default ``max_steps``
    suffices for ``tol=1e-12`` at damping 0.999. Every ``check_every`` steps the host asks the device if all
    is done (a sync; ``None``: each step on a CPU, every 8th elsewhere); results do not change with it.
    """

    max_steps: int = 30_000
    check_every: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.max_steps):
            raise ValueError(f"max_steps: got {self.max_steps!r}, expected at least 1")
        if self.check_every is not None and not is_whole(self.check_every):
            raise ValueError(f"check_every: got {self.check_every!r}, expected at least 1")

    @abstractmethod
    def run(
        self,
        propagate: Propagate,
        constant: Float[Tensor, "*#batch n"],
        x: Float[Tensor, "*batch n"],
    ) -> Stationary:
        """Bring ``x`` to where ``x = propagate(x) + constant``; ``propagate`` is linear."""

    def solve(
        self,
        operator: TransitionOperator,
        damping: float,
        teleport: Float[Tensor, "*#batch n"],
        first: Float[Tensor, "*batch n"],
    ) -> tuple[Stationary, Adjoint]:
        def propagate(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
            # Less the mass that arrives: a change keeps the sum 0, where mass gained by rounding would leave
            # only at 1 - d a step.
            x = damping * operator.apply(x)
            return x - x.sum(-1, keepdim=True) * teleport

        def transposed(change: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
            return centred(damping * operator.apply_transpose(change))

        result = self.run(propagate, teleport, first)
        value = result.value.clamp_min(0)
        stationary = replace(result, value=value / value.sum(-1, keepdim=True))
        return stationary, lambda grad: self.run(transposed, grad, grad)

    @property
    def effort(self) -> str:
        return f"in {self.max_steps} steps"

    @property
    def advice(self) -> str:
        return (
            f"raise max_steps or tol, lower damping, or pass solver={type(self).__name__}"
            "(raise_on_failure=False) to get the last iterate"
        )


def centred(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Less its mean."""
    return x - x.mean(-1, keepdim=True)


class Progress:
    """Which chains still move, for the loop of an `Iteration`."""

    def __init__(self, solver: Iteration, change: Float[Tensor, "*batch n"]) -> None:
        batch, device = change.shape[:-1], change.device
        self._solver = solver
        self._check_every = solver.check_every or (1 if device.type == "cpu" else 8)
        self.active = torch.ones(batch, dtype=torch.bool, device=device)
        self.steps = torch.zeros(batch, dtype=torch.long, device=device)
        self.residual = change.new_full(batch, math.inf)

    def record(self, step: int, change: Float[Tensor, "*batch n"]) -> bool:
        """Count a step of ``change`` and return whether to stop."""
        self.residual = torch.where(self.active, change.abs().sum(-1), self.residual)
        self.steps = self.steps + self.active
        self.active = self.active & ~(self.residual <= self._solver.tol)  # a NaN stays, and is reported
        if step == self._solver.max_steps:
            return True
        return step % self._check_every == 0 and not self.active.any()

    def result(self, value: Float[Tensor, "*batch n"]) -> Stationary:
        return Stationary(value, ~self.active, self.steps, self.residual)


@dataclass(frozen=True)
class PowerIteration(Iteration):
    """The chain's own steps; what is iterated is the change, ``c <- propagate(c)`` and ``x <- x + c``.

    The iterates are the same, but ``c`` always shrinks, where a float32 ``x`` of a near-periodic chain stalls
    at changes of ``eps / (1 - d)``. See `Solver` and `Iteration` for the numbers.
    """

    def run(
        self, propagate: Propagate, constant: Float[Tensor, "*#batch n"], x: Float[Tensor, "*batch n"]
    ) -> Stationary:
        change = propagate(x) + constant - x
        progress = Progress(self, change)
        for step in range(1, self.max_steps + 1):
            x = torch.where(progress.active.unsqueeze(-1), x + change, x)
            if progress.record(step, change):
                break
            change = propagate(change)
        return progress.result(x)


@dataclass(frozen=True)
class MinimalResidual(Iteration):
    """Steps that make the change as short as it can be over ``depth`` directions, then anew from there.

    Restarted generalised conjugate residuals, the same as GMRES(depth): on chains that mix slowly a small
    part of the steps of `PowerIteration`, on others as many. Between two rounds the chain makes a step of its
    own, and its change is computed afresh. Holds ``2 * depth`` vectors.
    Source: Eisenstat, Elman and Schultz 1983.
    """

    depth: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.depth):
            raise ValueError(f"depth: got {self.depth!r}, expected at least 1")

    def run(
        self, propagate: Propagate, constant: Float[Tensor, "*#batch n"], x: Float[Tensor, "*batch n"]
    ) -> Stationary:
        change = torch.zeros_like(x)
        progress = Progress(self, change)
        space = _Directions(self.depth, change)
        for step in range(1, self.max_steps + 1):
            active = progress.active.unsqueeze(-1)
            if space.full or step == 1:
                x = torch.where(active, x + change, x)
                change = torch.where(active, propagate(x) + constant - x, change)
                space.restart(change)
            else:
                direction, image = space.extend(propagate)
                length = (change * image).sum(-1, keepdim=True)
                # A finished chain's directions are made of rounding and may overflow.
                x = torch.where(active, x + length * direction, x)
                change = torch.where(active, change - length * image, change)
                space.aim(change)
            if progress.record(step, change):
                break
        return progress.result(x + change)


class _Directions:
    """Directions and their images under ``x - propagate(x)``, the images orthonormal."""

    def __init__(self, depth: int, like: Float[Tensor, "*batch n"]) -> None:
        self._directions = like.new_zeros(*like.shape[:-1], depth, like.shape[-1])
        self._images = torch.zeros_like(self._directions)
        self._seed = self._change = like
        self._used = 0

    @property
    def full(self) -> bool:
        return self._used == self._images.shape[-2]

    def restart(self, change: Float[Tensor, "*batch n"]) -> None:
        self._directions.zero_()
        self._images.zero_()
        self._seed = self._change = change
        self._used = 0

    def extend(self, propagate: Propagate) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
        """Add one direction; one product."""
        direction, image = self._seed, self._seed - propagate(self._seed)
        before = image.norm(dim=-1, keepdim=True)
        images, directions = self._images[..., : self._used, :], self._directions[..., : self._used, :]
        for _ in range(2):  # once leaves a remainder where the image is nearly in the span
            shares = image.unsqueeze(-2) @ images.mT
            image = image - (shares @ images).squeeze(-2)
            direction = direction - (shares @ directions).squeeze(-2)
        norm = image.norm(dim=-1, keepdim=True)
        new = norm > 10 * torch.finfo(norm.dtype).eps * before  # else what is left is rounding
        scale = torch.where(new, 1 / norm, 0.0)
        direction, image = direction * scale, image * scale
        self._directions[..., self._used, :], self._images[..., self._used, :] = direction, image
        self._used += 1
        return direction, image

    def aim(self, change: Float[Tensor, "*batch n"]) -> None:
        """Go on from the new change, or from the last image where the change has hardly become shorter."""
        stuck = change.norm(dim=-1, keepdim=True) > STUCK * self._change.norm(dim=-1, keepdim=True)
        self._seed = torch.where(stuck, self._images[..., self._used - 1, :], change)
        self._change = change
