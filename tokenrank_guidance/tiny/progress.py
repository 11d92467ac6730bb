"""The loop around a training step: schedule, progress, checkpoints, interruption."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from tokenrank_guidance.messages import say
from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.choices import SEED_STRIDE

LOG_EVERY = 50
SAVE_SECONDS, TELL_SECONDS = 120.0, 10.0


@dataclass(frozen=True)
class Schedule:
    """How much is trained, by images seen in all or by minutes, and the learning rate's shape over it.

    The rate rises over `warmup` steps to its peak, stays, and falls linearly over the last `cooldown` of the
    run. A run that is continued goes back up, as if the cooldown had been a branch. `milestones` are numbers
    of images seen at which the state is saved too. Raises ValueError unless just one of `images`, at least
    one batch, and `minutes` is given.
    """

    images: int | None
    batch: int
    rate: float
    seed: int = 0
    warmup: int = 200
    cooldown: float = 0.25
    milestones: tuple[int, ...] = ()
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.images is None) == (self.minutes is None):
            raise ValueError(f"got images={self.images} and minutes={self.minutes}, expected one of them")
        if self.images is not None and self.images < self.batch:
            raise ValueError(f"images: got {self.images}, expected at least one batch of {self.batch}")

    def part(self, step: int, seconds: float = 0.0) -> float:
        """The share of the run that lies behind after `step` steps in `seconds`; from 1 on it is over."""
        if self.images is not None:
            return step / (self.images // self.batch)
        assert self.minutes is not None
        return seconds / (60 * self.minutes)

    def is_milestone(self, step: int) -> bool:
        """Whether the first of the steps that reach a milestone is `step`."""
        return any(-(-images // self.batch) == step for images in self.milestones)

    def factor(self, step: int, seconds: float = 0.0) -> float:
        """Multiplier of the peak rate at `step` of a run that is not over, in (0, 1]."""
        return min(1.0, (step + 1) / self.warmup, (1 - self.part(step, seconds)) / self.cooldown)


@dataclass(frozen=True)
class Run:
    """One stage of training: its name, how much is trained, where it is kept and where it is computed."""

    name: str
    schedule: Schedule
    checkpoint: Path
    device: str = "cpu"
    compiled: bool = False

    def over(self, state: TrainingState) -> bool:
        """Whether `state` is that of the end."""
        return self.schedule.part(state.step, state.seconds) >= 1


def step_generator(seed: int, step: int, device: str | torch.device = "cpu") -> Generator:
    """The random numbers of one step on `device`, from (seed, step) alone: a resumed run repeats none."""
    return torch.Generator(device).manual_seed(seed * SEED_STRIDE + step)


def draw_rows(weights: Tensor, count: int, draw: Generator) -> Tensor:
    """`count` different rows, row i with a chance ∝ weights[i], as `torch.multinomial`, which syncs a GPU."""
    return (weights / torch.empty_like(weights).exponential_(generator=draw)).topk(count).indices


def finite(loss: Tensor) -> Tensor:
    """The loss itself; raises FloatingPointError, before anything is changed, if it is not finite."""
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the training loss became {loss.item()}; resume with a lower --rate")
    return loss


def descend(optimizers: list[Optimizer], loss: Tensor, factor: float) -> None:
    """One step of every optimizer with its own peak rate times `factor`, gradients clipped to norm 1."""
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * factor
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of acting on them, so that a step is done whole or not at all.

    Outside the main thread Python delivers no signals, and nothing is changed.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda caught, frame: received.append(caught)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def training_loop(run: Run, state: TrainingState, step_loss: Callable[[int], Tensor]) -> Iterator[int]:
    """Run `step_loss` and descend from where the checkpoint left off; yield the step after each save.

    The checkpoint is written every two minutes, at milestones, at the end, and on any way out between two
    steps; an interrupt waits for the end of its step and then raises KeyboardInterrupt. The clock stands
    still while the caller has what was yielded.
    """
    if run.checkpoint.exists():
        state.load(run.checkpoint)
    log, whole = LossLog(run, state), True
    saved = time.monotonic()
    began = saved - state.seconds
    try:
        while not run.over(state):
            with deferred_interrupts() as received:
                loss = step_loss(state.step)
                if not loss.is_cuda:  # looking at each would make a GPU wait: there the log looks, later
                    finite(loss)
                whole = False
                descend(state.optimizers, loss, run.schedule.factor(state.step, state.seconds))
                state.step += 1
                state.seconds = time.monotonic() - began
                log.add(loss)
                whole = True
            if received:
                raise KeyboardInterrupt
            due = run.schedule.is_milestone(state.step) or time.monotonic() - saved > SAVE_SECONDS
            if due and not run.over(state):
                log.save()
                yield state.step
                saved = time.monotonic()
                began = saved - state.seconds
    finally:
        if whole:
            log.save()
    yield state.step


class LossLog:
    """Means of the loss over `LOG_EVERY` steps, kept in the state's history as [images seen, mean].

    Every ten seconds, and at the end, one line on stderr says how far the run is. On a GPU the losses are
    looked at no more often than that: FloatingPointError if one is not finite, and then nothing is saved.
    """

    def __init__(self, run: Run, state: TrainingState) -> None:
        self._run, self._state = run, state
        self._losses: list[Tensor] = []
        self._told, self._seen = time.monotonic(), self._images()

    def add(self, loss: Tensor) -> None:
        """Take the loss of the step that `state` has just done."""
        self._losses.append(loss.detach())
        step, over = self._state.step, self._run.over(self._state)
        if over or time.monotonic() - self._told > TELL_SECONDS:
            self._tell(self._mean())
        if over or step % LOG_EVERY == 0 or self._run.schedule.is_milestone(step):
            self._state.history.append([self._images(), self._mean()])
            self._losses = []

    def save(self) -> None:
        """Write the state, unless one of its losses or numbers is not finite."""
        if self._losses:
            self._mean()
        self._state.save(self._run.checkpoint)

    def _mean(self) -> float:
        return finite(torch.stack(self._losses).mean()).item()

    def _images(self) -> int:
        return self._state.step * self._run.schedule.batch

    def _tell(self, loss: float) -> None:
        seen, now = self._images(), time.monotonic()
        part = min(1.0, self._run.schedule.part(self._state.step, self._state.seconds))
        speed = (seen - self._seen) / max(now - self._told, 1e-9)
        say(f"{self._run.name}: {seen:,} images seen, {part:.1%}, {speed:,.0f} images/s, loss {loss:.4f}")
        self._told, self._seen = now, seen
