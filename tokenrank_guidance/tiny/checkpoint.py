"""Training state as one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole


@dataclass
class TrainingState:
    """What a run needs to go on as if it had never stopped.

    Random numbers are no part of it: each step draws from a generator seeded by (seed, step).
    """

    modules: dict[str, torch.nn.Module]
    optimizers: list[Optimizer] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    history: list[list[float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write every module's and optimizer's tensors to `path`; FloatingPointError if one is not finite."""
        facts = {"step": str(self.step), "seconds": str(self.seconds), "history": json.dumps(self.history)}
        tensors = self._tensors()
        for name, value in tensors.items():
            if not value.isfinite().all():
                raise FloatingPointError(f"{name} is no longer finite; resume with a lower --rate")
        write_whole(path, lambda scratch: save_tensors(tensors, scratch, facts))

    def load(self, path: Path) -> None:
        """Read back what `save` wrote, into the same modules and optimizers; ValueError for another file."""
        tensors, metadata = load_tensors(path)
        try:
            for name, module in self.modules.items():
                module.load_state_dict(_under(tensors, f"module.{name}."))
            for i, optimizer in enumerate(self.optimizers):
                _load_optimizer(optimizer, _under(tensors, f"optimizer.{i}."))
            self.step = int(metadata["step"])
            self.seconds = float(metadata.get("seconds", "0"))
            self.history = json.loads(metadata["history"])
        except (IndexError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path} is damaged or of another model: {reason}; remove it to start anew"
            ) from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {}
        for name, module in self.modules.items():
            tensors |= {f"module.{name}.{key}": value for key, value in module.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{index}.{key}": torch.as_tensor(v) for key, v in state.items()}
        return {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        like = parameters[int(index)]
        # Fused optimizers walk through memory: their state must lie there in the parameter's order.
        kept = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[name] = kept
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
