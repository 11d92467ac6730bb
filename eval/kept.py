"""What is kept of each image beside the journal, where numbers alone do not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kept:
    """Tensors of each image, a file each in `folder`; `fits` says whether they are all that there must be."""

    folder: Path
    fits: Callable[[Tensors], bool]

    def add(self, image: int, tensors: Tensors) -> None:
        """Keep those of a measured image, whole or not at all."""
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_whole(self._file(image), lambda path: save_tensors(contiguous, path))

    def load(self, image: int) -> Tensors:
        """Those of an image; ValueError where they are not there, or damaged."""
        path = self._file(image)
        tensors, _ = load_tensors(path)
        if not self.fits(tensors):
            raise ValueError(f"{path} is damaged; run the same command to measure that image again")
        return tensors

    def whole(self, image: int) -> bool:
        """Whether `load` gives them."""
        try:
            self.load(image)
        except ValueError:
            return False
        return True

    def _file(self, image: int) -> Path:
        return self.folder / f"{image:06d}.safetensors"
