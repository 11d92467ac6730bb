"""FID between masked and plain pictures, where Inception's weights are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from eval.masking.measure import Measurement
from eval.masking.pixels import FILLS, Grid, fill_patches
from eval.masking.ranking import masks
from eval.masking.task import Task
from eval.metrics.frechet import fid_inception
from eval.patches import patch_side


@dataclass(frozen=True)
class MaskedPictures(Dataset):
    """uint8 (3, h, w) pictures of a task, with a share of their patches masked as one arm ranks them."""

    task: Task
    images: list[int]
    places: Int[Tensor, "images patches"]
    grid: Grid
    mask: str
    fraction: float

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> UInt8[Tensor, "3 height width"]:
        image = self.task.preprocessing(self.task.source[self.images[i]].image)[None]
        masked = masks(self.places[i : i + 1].long(), self.fraction)
        filled = fill_patches(image, FILLS[self.mask](image), masked, self.grid)
        return (255 * self.task.preprocessing.pixels(filled)[0]).round().to(torch.uint8)


def fid_curves(weights: Path, task: Task, measure: Measurement, images: list[int]) -> list[list[float]]:
    """FID of each arm at each fraction. The pictures are masked anew, and each goes through Inception."""
    places, shape = task.rankings(measure, images)
    grid = Grid(shape, patch_side(task.classifier.model))
    masking = measure.masking
    plain = MaskedPictures(task, images, places[0], grid, masking.mask, 0.0)
    return [
        [
            fid_inception(MaskedPictures(task, images, own, grid, masking.mask, fraction), plain, weights)[
                "fid"
            ]
            for fraction in masking.fractions
        ]
        for own in places
    ]
