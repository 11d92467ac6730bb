"""Long work that says how far it is and can be stopped: at each call of the network that does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tokenrank_guidance.capture.eager import eager

Told = Callable[[float, str], object]


class Cancelled(Exception):  # noqa: N818 - no error: it was asked for
    """Someone asked for this work to stop."""


def _silent(done: float, what: str) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Watch:
    """`told` is called with the share that is done, in [0, 1], and with what is going on."""

    told: Told = _silent
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise Cancelled once it was asked for."""
        if self.stop.is_set():
            raise Cancelled

    @contextmanager
    def over(self, network: nn.Module, calls: int, what: str) -> Iterator[None]:
        """In the block `network` is called about `calls` times; Cancelled is raised before one of them."""
        done = 0

        def before(*_: Any) -> None:
            nonlocal done
            self.check()
            self.told(min(done / calls, 1.0), what)
            done += 1

        handle = network.register_forward_pre_hook(eager(before))
        try:
            yield
        finally:
            handle.remove()
