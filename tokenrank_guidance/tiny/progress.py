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
from tqdm import tqdm

from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.choices import SEED_STRIDE

LOG_EVERY = 50
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class Schedule:
    """How much is trained: images seen in all, batch size, peak learning rate and its shape over time.

    The rate rises over `warmup` steps, stays, and falls linearly over the last `cooldown` of the run. A run
    that is continued with more images goes back up, as if the cooldown had been a branch. `milestones` are
    numbers of images seen at which the state is saved too.
    """

    images: int
    batch: int
    rate: float
    seed: int = 0
    warmup: int = 200
    cooldown: float = 0.25
    milestones: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def is_milestone(self, step: int) -> bool:
        """Whether the first of the steps that reach a milestone is `step`."""
        return any(-(-images // self.batch) == step for images in self.milestones)

    def factor(self, step: int) -> float:
        """Multiplier of the peak rate at `step`, in (0, 1]."""
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        return min(1.0, rising, falling)


def step_generator(seed: int, step: int) -> Generator:
    """The random numbers of one step, from (seed, step) alone, so that a resumed run repeats none."""
    return torch.Generator().manual_seed(seed * SEED_STRIDE + step)


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


def training_loop(
    name: str, state: TrainingState, schedule: Schedule, checkpoint: Path, step_loss: Callable[[int], Tensor]
) -> Iterator[int]:
    """Run `step_loss` and descend from where `checkpoint` left off; yield the step after each save.

    The checkpoint is written every two minutes, at milestones, at the end, and on any way out between two
    steps; an interrupt waits for the end of its step and then raises KeyboardInterrupt.
    """
    if checkpoint.exists():
        state.load(checkpoint)
    saved, whole = time.monotonic(), True
    log = LossLog(state, schedule)
    bar = tqdm(total=schedule.steps, initial=state.step, desc=name, unit="step", mininterval=5.0)
    try:
        while state.step < schedule.steps:
            with deferred_interrupts() as received:
                loss = finite(step_loss(state.step))
                whole = False
                descend(state.optimizers, loss, schedule.factor(state.step))
                state.step += 1
                whole = True
                bar.update()
                log.add(loss, bar)
            if received:
                raise KeyboardInterrupt
            if schedule.is_milestone(state.step) or time.monotonic() - saved > SAVE_SECONDS:
                state.save(checkpoint)
                saved = time.monotonic()
                yield state.step
    finally:
        bar.close()
        if whole:
            state.save(checkpoint)
    yield state.step


class LossLog:
    """Means of the loss over `LOG_EVERY` steps, kept in the state's history as [images seen, mean]."""

    def __init__(self, state: TrainingState, schedule: Schedule) -> None:
        self._state, self._schedule = state, schedule
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor, bar: tqdm) -> None:
        self._losses.append(loss.detach())
        step, schedule = self._state.step, self._schedule
        if step % LOG_EVERY == 0 or step == schedule.steps or schedule.is_milestone(step):
            mean = torch.stack(self._losses).mean().item()
            self._state.history.append([step * schedule.batch, mean])
            bar.set_postfix(loss=f"{mean:.4f}")
            self._losses = []
