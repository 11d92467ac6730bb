"""How a masked picture is classified: its pixels filled, or its tokens dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Bool
from torch import Tensor

from eval.masking.choices import MASKS
from eval.masking.classifier import Classified, Classifier, Images
from eval.masking.drop import check_droppable, dropped_patches
from eval.masking.fills import FILLS
from eval.masking.pixels import Grid, fill_patches
from eval.patches import patch_side

Masks = Bool[Tensor, "arms images patches"]
Classify = Callable[[Masks], Classified]


@dataclass(frozen=True)
class Pictures:
    """Normalised images (B, C, H, W) and the grid of their patches."""

    images: Images
    grid: tuple[int, int]


def masked_classifier(mask: str, classifier: Classifier, pictures: Pictures) -> Classify:
    """A function of masks (arms, B, patches) that classifies each masked picture, arm by arm.

    `mask`: zero, mean, blur (see `pixels`) or drop (see `drop`). Raises ValueError for another one.
    """
    check_mask(mask, classifier)
    if mask == "drop":
        return partial(_classify_dropped, classifier, pictures)
    grid = Grid(pictures.grid, patch_side(classifier.model))
    return partial(_classify_filled, classifier, pictures.images, FILLS[mask](pictures.images), grid)


def check_mask(mask: str, classifier: Classifier) -> None:
    """ValueError for an unknown `mask`, UnsupportedError for a model that cannot be masked so."""
    if mask not in MASKS:
        raise ValueError(f"mask: got {mask!r}, expected one of {', '.join(MASKS)}")
    if mask == "drop":
        check_droppable(classifier.model)
    else:
        patch_side(classifier.model)


def _classify_filled(
    classifier: Classifier, images: Images, fill: Images, grid: Grid, masked: Masks
) -> Classified:
    return classifier(fill_patches(images, fill, masked, grid).flatten(0, 1))


def _classify_dropped(classifier: Classifier, pictures: Pictures, masked: Masks) -> Classified:
    images = pictures.images.expand(len(masked), *pictures.images.shape).flatten(0, 1)
    with dropped_patches(classifier.model, masked.flatten(0, 1)):
        return classifier(images)
