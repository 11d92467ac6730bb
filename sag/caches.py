"""Caches that a denoiser keeps from call to call: guidance's extra pass neither reads nor fills them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from torch import nn

from tokenrank_guidance.errors import UnsupportedError

SKIPS_A_HALF = "faster_cache_denoiser"


class OwnCaches:
    """The states of diffusers' cache hooks on a denoiser, once more: those that the extra pass lives in.

    FirstBlockCache, MagCache, TaylorSeer, SeaCache and the like compare each call with those before it. With
    states of its own, the extra pass is compared with the extra passes before it.
    """

    def __init__(self, module: nn.Module) -> None:
        """Raises UnsupportedError for a cache that cannot be kept apart."""
        self._module = module
        refuse_deepcache(module)
        self._hooks = [hook for hook in _hooks(module) if hook._is_stateful]
        self._states: dict[tuple[int, str], Any] = {}

    def __bool__(self) -> bool:
        return bool(self._hooks)

    @property
    def names(self) -> str:
        return ", ".join(sorted({type(hook).__name__ for hook in self._hooks}))

    def refuse_halves(self) -> None:
        """FasterCache takes a batch of both halves, and after the first call computes only one of them."""
        registry = getattr(self._module, "_diffusers_hook", None)
        hook = registry.get_hook(SKIPS_A_HALF) if registry is not None else None
        if hook is not None and not hook.is_guidance_distilled:
            raise UnsupportedError(
                "FasterCache skips the unconditional half, whose attention guidance looks at: set "
                "FasterCacheConfig(is_guidance_distilled=True), or take another cache"
            )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Own states in the block, the pipeline's again after it."""
        pipelines = {}
        for hook in self._hooks:
            for name, holder, attribute in _states(hook):
                key = (id(holder), name)
                if key not in pipelines:
                    pipelines[key] = (holder, attribute, getattr(holder, attribute))
        try:
            for key, (holder, attribute, state) in pipelines.items():
                setattr(holder, attribute, self._states[key] if key in self._states else _fresh(state))
            yield
        finally:
            for key, (holder, attribute, state) in pipelines.items():
                self._states[key] = getattr(holder, attribute)
                setattr(holder, attribute, state)


def _hooks(module: nn.Module) -> Iterator[Any]:
    for part in module.modules():
        registry = getattr(part, "_diffusers_hook", None)
        if registry is not None:
            yield from registry.hooks.values()


def _states(hook: Any) -> Iterator[tuple[str, Any, str]]:
    """What a hook keeps: a manager, which hooks share, holds a state per context; others hold one state."""
    for name, value in vars(hook).items():
        if hasattr(value, "_state_cache"):
            yield "managed", value, "_state_cache"
        elif name == "state" and hasattr(value, "reset"):
            yield name, hook, name


def _fresh(state: Any) -> Any:
    if isinstance(state, dict):
        return {}
    blank = deepcopy(state)
    blank.reset()
    return blank


def refuse_deepcache(module: nn.Module) -> None:
    """It keeps features by timestep, which the extra pass of the same timestep would read and overwrite."""
    forward = vars(module).get("forward")
    if "DeepCache" in getattr(forward, "__qualname__", ""):
        raise UnsupportedError(
            "DeepCache keeps features for all calls of a timestep, guidance's extra pass among them, and "
            "skips the layers to rank tokens by: disable it, or take a cache of diffusers (enable_cache)"
        )
