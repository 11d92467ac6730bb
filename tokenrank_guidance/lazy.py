"""Packages whose names are imported when they are first asked for: a parser needs no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Find = Callable[[str], Any]
Listed = Callable[[], list[str]]


def lazy(package: str, exports: Mapping[str, str]) -> tuple[Find, Listed]:
    """The `__getattr__` and `__dir__` (PEP 562) of `package`; `exports` has its names by defining module.

    The same imports stand beside it under TYPE_CHECKING, for whoever reads or checks the code.
    """
    home = {name: module for module, names in exports.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find, lambda: sorted({*vars(sys.modules[package]), *home})


class LazyModule:
    """A module that is imported when something of it is first asked for: a registry's names need no torch."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
