"""What several guidance tests need: recorded denoiser calls, and all that guidance might leave behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FAMILIES_WITH_CFG = [
    (name, cfg) for name in ("sd", "sdxl", "sd3", "flux", "pixart", "dit") for cfg in (True, False)
]
EVERY_FAMILY = [*FAMILIES_WITH_CFG, ("ddpm", False)]


@dataclass
class Recorded:
    """One denoiser call: its inputs by name and the output that the pipeline received."""

    inputs: dict[str, Any]
    output: Tensor


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Recorded]]:
    """Every call of `model`, guidance's own included, in the order they ended; enter it after guidance."""
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    calls: list[Recorded] = []

    def record(module, args, kwargs, output):
        inputs = dict(zip(names, args, strict=False)) | kwargs
        calls.append(Recorded(inputs, (output[0] if isinstance(output, tuple) else output.sample).clone()))

    handle = model.register_forward_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def traces(model: nn.Module) -> dict[str, object]:
    """Everything on a network that guidance might leave behind, by object identity where there is any."""
    processors = {name: m.processor for name, m in model.named_modules() if hasattr(m, "processor")}
    return {
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "options": [
            (
                len(m._forward_hooks_with_kwargs),
                len(m._forward_pre_hooks_with_kwargs),
                len(m._forward_hooks_always_called),
            )
            for m in model.modules()
        ],
        "processors": {name: id(processor) for name, processor in processors.items()},
        "attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
        "training": [m.training for m in model.modules()],
    }


def count_calls(model: nn.Module, run: Callable[[], Any]) -> tuple[Any, int]:
    """What `run` returns, and how often it called `model`."""
    with recorded(model) as calls:
        result = run()
    return result, len(calls)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_weights(model: nn.Module, before: dict[str, Tensor]) -> bool:
    after = model.state_dict()
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
