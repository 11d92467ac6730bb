"""Which pipeline's call a denoiser call belongs to, and what that pipeline holds: the call stack tells both.

A denoiser does not know who calls it, and several pipelines may share one. What a pipeline steps, and whether
its batch holds parts of classifier-free guidance, many tell in no attribute, but all in local variables.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from torch import Tensor

PIPELINES = frozenset({"DiffusionPipeline", "ModularPipeline"})
MARK = "<call seen by guidance>"  # no name that code can have


class Call:
    """One running call of a pipeline, from its beginning to its end."""


class LastCall:
    """Tells calls apart, of which it keeps none alive: no schedule does, as a call may set several."""

    def __init__(self) -> None:
        self._call: weakref.ref[Call] | None = None

    def __reduce__(self) -> tuple[type[LastCall], tuple[()]]:
        return LastCall, ()  # of another process, or a copy, no call has been seen

    def ended(self, call: Call) -> bool:
        """Whether `call` is another than the last time."""
        before = None if self._call is None else self._call()
        self._call = weakref.ref(call)
        return before is not call


@dataclass(frozen=True, eq=False)
class Caller:
    """A pipeline whose call is running, and the local variables of its method nearest to the denoiser.

    To be dropped once the denoiser has returned: it holds the pipeline's tensors.
    """

    pipe: Any
    names: Mapping[str, Any]
    steps: bool  # whether these methods call anything named `step`
    call: Call | None = None  # of an object that is no pipeline any method may be the loop

    def tensor(self, *names: str) -> Tensor | None:
        """The first local variable of these `names` that is a tensor."""
        found = (self.names.get(name) for name in names)
        return next((value for value in found if isinstance(value, Tensor)), None)

    def says(self, name: str) -> Any:
        """A setting of the call: an attribute of the pipeline, else a local variable; None without either."""
        value = getattr(self.pipe, name, None)
        return self.names.get(name) if value is None else value


def caller_within(pipe: Any, guided: Collection[Any]) -> Caller | None:
    """The innermost pipeline, if the innermost of all `guided` objects that this code runs in is `pipe`.

    With the call of `pipe`; where that is no pipeline, with the outermost inside of it.
    """
    callers = running_calls(guided)
    own = next((i for i, one in enumerate(callers) if any(one.pipe is other for other in guided)), None)
    if own is None or callers[own].pipe is not pipe:
        return None
    calls = (one.call for one in reversed(callers[: own + 1]) if one.call is not None)
    return replace(callers[0], call=next(calls, None))


def running_calls(also: Collection[Any] = ()) -> list[Caller]:
    """The pipelines whose `__call__` this code runs in, innermost first.

    `also`: objects that count as pipelines whatever their class, in any of their methods. Other methods of a
    diffusers pipeline do not sample (an inversion runs the schedule backwards).
    """
    methods: dict[int, list[FrameType]] = {}
    callers: dict[int, Caller] = {}
    frame = sys._getframe(1)
    while frame is not None:
        owner = _owner(frame)
        listed = any(owner is other for other in also)
        if owner is not None and (listed or _is_pipeline(owner)):
            frames = methods.setdefault(id(owner), [])
            frames.append(frame)
            samples = frame.f_code.co_name == "__call__" or (listed and not _is_pipeline(owner))
            if samples and id(owner) not in callers:
                steps = any("step" in inner.f_code.co_names for inner in frames)
                callers[id(owner)] = Caller(owner, frames[0].f_locals, steps)
            if samples and _is_pipeline(owner):  # the outermost, where that calls the one of its base
                callers[id(owner)] = replace(callers[id(owner)], call=_call_of(frame))
        frame = frame.f_back
    return [*callers.values()]


def _call_of(frame: FrameType) -> Call:
    """Held by the frame alone, beside its code's own variables, so that both end at once."""
    return frame.f_locals.setdefault(MARK, Call())


def _owner(frame: FrameType) -> Any:
    """The object whose method a frame runs, if it is one and not a network's."""
    if frame.f_code.co_varnames[:1] != ("self",) or frame.f_globals.get("__name__", "").startswith("torch."):
        return None
    return frame.f_locals.get("self")


def _is_pipeline(owner: Any) -> bool:
    return any(base.__name__ in PIPELINES for base in type(owner).__mro__)
