"""Runs that guidance changes nothing in, and why: their images are those of the unguided pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from sag.degraded import GuidedStep
from sag.noise import SamplingStep
from sag.settings import GuidanceSettings


class Idle:
    """Watches the steps of one run, and warns once at its end where guidance changed none of them."""

    def __init__(self, settings: GuidanceSettings) -> None:
        self._settings = settings
        self._first: SamplingStep | None = None
        self._told = False

    def begin(self, step: SamplingStep) -> None:
        self._first = self._first or step

    def end(self, step: SamplingStep, steps: Sequence[GuidedStep], name: str) -> None:
        """`step` is done; `steps` are those guided so far of a run of what is called `name`."""
        if self._first is None or self._told or step.number < step.total - 1:
            return
        why = _why(self._settings, steps, self._first)
        self._told = bool(why)
        if why:
            warnings.warn(f"nothing was guided in a run of {name}: {why}", UserWarning, stacklevel=2)


def _why(settings: GuidanceSettings, steps: Sequence[GuidedStep], first: SamplingStep) -> str:
    """Why a run that began with step `first` was not guided, by the `steps` that were; empty where it was."""
    if any(not step.noise_alone for step in steps):
        return ""
    if steps:
        return (
            "the step that is guided begins from noise alone, with no image in it to blur: take more steps, "
            "or guide more of them"
        )
    made = f"it makes steps {first.number + 1} to {first.total} of {first.total}"
    window = f"start={settings.start:g}, stop={settings.stop:g}, every={settings.every}"
    return f"{made}, of which {window} guides none"
