"""Several processes at one task."""

from __future__ import annotations

from datetime import timedelta

from accelerate import PartialState

PATIENCE = timedelta(days=30)  # torch's own 10 to 30 minutes end a run whose processes are not equally fast


def join_processes(device: str) -> PartialState:
    """This process's place among those of `accelerate launch`; alone, it is the only one.

    They wait for one another as long as it takes; on a CPU they talk by gloo.
    """
    return PartialState(cpu=device == "cpu", timeout=PATIENCE)
