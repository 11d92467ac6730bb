"""Masking patches by taking their tokens out of the sequence.

The tokens go after patch and position embedding, by forward hooks, so that every layer sees fewer of them:
the same as an attention mask that hides them from all others. A family is one `Dropping` entry in `DROPPING`,
found by the class name of the transformer, which may be a part of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tokenrank_guidance.errors import UnsupportedError

Kept = Int[Tensor, "images kept"]


@dataclass(frozen=True)
class Dropping:
    """One family: the module whose output is the embedded sequence, and how its rotary positions are cut.

    `models`: class names. `sequence`: the module, with the patches last. `rotary`: hooks that cut the
    positions of the patches, given the model and the kept patches; None where positions are added to the
    embedding.
    """

    models: tuple[str, ...]
    sequence: str
    rotary: Callable[[nn.Module, Kept], list[RemovableHandle]] | None = None


def _cut_output(model: nn.Module, kept: Kept) -> list[RemovableHandle]:
    """DINOv3's module of positions gives (cos, sin), each (patches, dim); the head axis broadcasts."""

    def cut(module: nn.Module, args: Any, positions: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return tuple(side[kept].unsqueeze(1) for side in positions)

    return [model.get_submodule("rope_embeddings").register_forward_hook(cut)]


def _cut_argument(model: nn.Module, kept: Kept) -> list[RemovableHandle]:
    """timm's EVA hands (patches, dim) or, per head, (heads, patches, dim) to every block as `rope`."""

    def cut(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        rope = kwargs.get("rope")
        if rope is None:
            return args, kwargs
        each = rope[..., kept, :].movedim(-3, 0)
        return args, kwargs | {"rope": each.unsqueeze(1) if rope.ndim == 2 else each}

    blocks = model.get_submodule("blocks").children()
    return [block.register_forward_pre_hook(cut, with_kwargs=True) for block in blocks]


DROPPING: list[Dropping] = [
    Dropping(
        models=(
            "ViTModel",
            "DeiTModel",
            "Dinov2Model",
            "Dinov2WithRegistersModel",
            "CLIPVisionModel",
            "CLIPVisionTransformer",
            "SiglipVisionModel",
            "SiglipVisionTransformer",
        ),
        sequence="embeddings",
    ),
    Dropping(models=("DINOv3ViTModel",), sequence="embeddings", rotary=_cut_output),
    Dropping(models=("VisionTransformer", "VisionTransformerDistilled"), sequence="norm_pre"),
    Dropping(models=("Eva",), sequence="norm_pre", rotary=_cut_argument),
]


@contextmanager
def dropped_patches(model: nn.Module, masked: Bool[Tensor, "images patches"]) -> Iterator[None]:
    """In the block, `model` sees its images without the tokens of their masked patches.

    Every image must keep the same number of patches, at least one: else ValueError. Raises UnsupportedError
    for a model that no entry of `DROPPING` knows. However the block ends, no hook stays.
    """
    transformer, entry = _find(model)
    kept = _kept(masked)
    patches = masked.shape[-1]

    def cut(module: nn.Module, args: Any, sequence: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        prefix = sequence.shape[1] - patches
        rows = torch.arange(len(kept), device=sequence.device).unsqueeze(1)
        return torch.cat([sequence[:, :prefix], sequence[rows, prefix + kept]], 1)

    handles = [transformer.get_submodule(entry.sequence).register_forward_hook(cut)]
    try:
        handles += entry.rotary(transformer, kept) if entry.rotary else []
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_droppable(model: nn.Module) -> None:
    """UnsupportedError, with the reason, for a model whose tokens cannot be dropped."""
    _find(model)


def _kept(masked: Bool[Tensor, "images patches"]) -> Kept:
    counts = (~masked).sum(-1)
    if not (counts == counts[0]).all() or not counts[0]:
        raise ValueError(
            f"drop keeps the same number of patches, at least 1, of every image; got {counts.tolist()}"
        )
    return (~masked).nonzero()[:, 1].view(len(masked), -1)


def _find(model: nn.Module) -> tuple[nn.Module, Dropping]:
    for module in model.modules():
        for base in type(module).__mro__:
            for entry in DROPPING:
                if base.__name__ in entry.models and hasattr(module, entry.sequence):
                    return module, entry
    known = ", ".join(name for entry in DROPPING for name in entry.models)
    raise UnsupportedError(
        f"where {type(model).__name__} has its sequence of embedded patches is not known, so that "
        f"none can be dropped; known: {known}. Use the mask zero, mean or blur"
    )
