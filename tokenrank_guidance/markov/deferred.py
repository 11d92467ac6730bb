"""Checks of values that a device holds: read at once, or together and later, so that no host need wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local

import torch
from jaxtyping import Bool
from torch import Tensor

_here = local()


class DeferredChecks:
    """Checks that were put off, in the order in which they would have been made.

    `settle` raises what the first that failed would have raised. In a CUDA graph that was captured under
    `deferred_checks` it reads what the last replay left.
    """

    def __init__(self) -> None:
        self._checks: list[tuple[Bool[Tensor, ""], Callable[[], Exception]]] = []
        self._fetched: tuple[Bool[Tensor, ""], torch.cuda.Event] | None = None

    def __bool__(self) -> bool:
        return bool(self._checks)

    def add(self, holds: Bool[Tensor, ""], error: Callable[[], Exception]) -> None:
        self._checks.append((holds, error))

    def fetch(self) -> None:
        """Start to copy the outcome to the host, so that a later `settle` finds it there."""
        if self._checks and self._checks[0][0].is_cuda:
            outcome = torch.empty((), dtype=torch.bool, pin_memory=True)
            outcome.copy_(self._outcome(), non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._fetched = outcome, event

    def settle(self) -> None:
        """Raise the error of the first check that failed, if any; waits for the device where it must."""
        if not self._checks:
            return
        outcome = self._outcome() if self._fetched is None else self._fetched[0]
        if self._fetched is not None:
            self._fetched[1].synchronize()
        if outcome:
            return
        raise next(error for holds, error in self._checks if not holds)()

    def _outcome(self) -> Bool[Tensor, ""]:
        return torch.stack([holds for holds, _ in self._checks]).all()


@contextmanager
def deferred_checks() -> Iterator[DeferredChecks]:
    """Put off, in this thread, every check of a value that is not on the CPU; the caller is to settle them.

    What is computed before that from values that fail is meaningless, often NaN.
    """
    before, _here.deferred = _deferred(), DeferredChecks()
    try:
        yield _here.deferred
    finally:
        _here.deferred = before


def require(holds: Bool[Tensor, ""], error: Callable[[], Exception]) -> None:
    """Raise `error()` unless `holds`; later where checks are put off.

    To know that costs a host sync, and `error` may cost more. It should hold on to small tensors alone.
    """
    if defers(holds.device):
        _here.deferred.add(holds, error)
    elif not holds:
        raise error()


def defers(device: torch.device) -> bool:
    """Whether the host is not to wait for this device: checks of its values are put off."""
    return _deferred() is not None and device.type != "cpu"


def _deferred() -> DeferredChecks | None:
    return getattr(_here, "deferred", None)
