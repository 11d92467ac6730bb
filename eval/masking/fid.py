"""FID between masked and plain pictures, where Inception's weights are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from eval.fidelity.choices import INCEPTION
from eval.fidelity.extractor import open_extractor
from eval.masking.fills import FILLS
from eval.masking.measure import Measurement
from eval.masking.pixels import Grid, fill_patches
from eval.masking.ranking import masks
from eval.masking.task import Task
from eval.metrics.frechet import frechet_from_features
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
    extractor = open_extractor(INCEPTION, weights, str(task.device))

    def features(own: Int[Tensor, "images patches"], fraction: float) -> Float[Tensor, "images d"]:
        masked = MaskedPictures(task, images, own, grid, measure.masking.mask, fraction)
        return extractor(masked)["features"]

    plain = features(places[0], 0.0)
    return [
        [frechet_from_features(features(own, fraction), plain) for fraction in measure.masking.fractions]
        for own in places
    ]
