"""Several processes at one task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from tokenrank_guidance.devices import usable_device

PATIENCE = timedelta(days=30)  # torch's own 10 to 30 minutes end a run whose processes are not equally fast


def join_processes(device: str) -> PartialState:
    """This process's place among those of `accelerate launch`; alone, it is the only one.

    They wait for one another as long as it takes; on a CPU they talk by gloo.
    """
    return PartialState(cpu=device == "cpu", timeout=PATIENCE)


def device_of(state: PartialState, device: str) -> str:
    """What a process computes on; ValueError for a device that does not work here."""
    return str(state.device) if device == "auto" else usable_device(device)


def agreed(state: PartialState, decide: Callable[[], Any]) -> Any:
    """What the main process decides; its error ends every process, as one that waits would wait for ever."""
    found: list[Any] = [None]
    if state.is_main_process:
        try:
            found = [decide()]
        except (ValueError, OSError) as error:
            found = [error]
    found = broadcast_object_list(found)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]
