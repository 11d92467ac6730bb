"""Content hashes: SHA-256, in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tokenrank_guidance.files.reading import open_regular

BLOCK = 1 << 20


def bytes_digest(data: bytes) -> str:
    """That of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """That of a file's contents, as `bytes_digest` of them all at once."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def joint_digest(parts: Iterable[object]) -> str:
    """That of the parts' text; the order counts."""
    return bytes_digest("\n".join(repr(part) for part in parts).encode())


def weights_digest(model: nn.Module) -> str:
    """That of a model's weights, so that results of another one are never taken for its own."""
    return tensors_digest(model.state_dict().items())


def pipeline_digest(pipe: Any) -> str:
    """That of the weights of all networks of a pipeline."""
    parts = sorted((name, part) for name, part in pipe.components.items() if isinstance(part, nn.Module))
    named = ((f"{name}.{key}", tensor) for name, part in parts for key, tensor in part.state_dict().items())
    return tensors_digest(named)


def tensors_digest(named: Iterable[tuple[str, torch.Tensor]], before: bytes = b"") -> str:
    """That of names, types, shapes and bytes, in their order, after what stands `before` them."""
    digest = hashlib.sha256(before)
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
