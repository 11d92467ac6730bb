"""Tensors in safetensors files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokenrank_guidance.files.reading import open_regular


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file and its metadata; ValueError for one that is damaged or of another kind."""
    try:
        open_regular(path).close()
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{path} is not a safetensors file, or not a whole one: {reason}") from error


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file; OSError, as of other files, where the disk is full."""
    with writing():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)


@contextmanager
def writing() -> Iterator[None]:
    """safetensors' own error for a disk that is full, in the block, as OSError."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error
