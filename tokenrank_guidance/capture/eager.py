"""What `torch.compile` is to leave alone."""

from types import MethodType
from typing import Any, Protocol

import torch
from torch import nn


class Removable(Protocol):
    """What takes something off again, as the handle of a hook does."""

    def remove(self) -> None: ...


def eager(hook: Any) -> Any:
    """A hook that compiled graphs break at and that runs outside them; a method stays one when it is copied.

    Traced, it would be compiled into many small graphs, and anew for whatever it looks at.
    """
    if isinstance(hook, MethodType):
        return MethodType(torch.compiler.disable(hook.__func__), hook.__self__)
    return torch.compiler.disable(hook)


class EagerForward:
    """A module whose `forward` runs outside compiled graphs, until `remove`.

    Graphs that were compiled before are compiled anew, as they depend on whose `forward` it is. Where another
    library has put a `forward` on the module itself, for offloading or a cache, that one stays.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._forward = None if "forward" in vars(module) else eager(module.forward)
        if self._forward is not None:
            vars(module)["forward"] = self._forward

    def remove(self) -> None:
        if self._forward is not None and vars(self._module).get("forward") is self._forward:
            del vars(self._module)["forward"]
