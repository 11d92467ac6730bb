"""COCO-Stuff-27 and Cityscapes, as PiCIE evaluates them, from folders of the user's own.

`coco-stuff27:ROOT` expects

    ROOT/val2017/000000000139.jpg                  COCO's val2017 images
    ROOT/stuffthingmaps/val2017/000000000139.png   COCO-Stuff's pixel maps, 0 to 181, 255 = unlabelled
    ROOT/val_ids.txt                               the 2,175 ids, one a line
    ROOT/fine_to_coarse.json                       {"fine_index_to_coarse_index": {"0": 9, ...}}

and `cityscapes:ROOT` the official packages

    ROOT/leftImg8bit/val/CITY/NAME_leftImg8bit.png
    ROOT/gtFine/val/CITY/NAME_gtFine_labelIds.png

whose label ids 7 to 33 are the 27 classes and the rest is ignored. Pictures of both are brought to a short
side of 512 and cropped to the 512² in their centre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from eval.data.folder import FolderImages
from eval.data.source import ImageSource, Table
from eval.metrics.confusion import IGNORE
from tokenrank_guidance.files.lines import read_lines
from tokenrank_guidance.files.reading import read_json

CROP = 512
FIRST, LAST = 7, 33
# Classes 0 to 11 are things, 12 to 26 stuff; four words name one of each.
COCO_NAMES = tuple(
    """electronic appliance food-thing furniture-thing indoor kitchen accessory animal outdoor person sports
    vehicle ceiling floor food-stuff furniture-stuff rawmaterial textile wall window building ground plant sky
    solid structural water""".split()  # noqa: SIM905
)
CITYSCAPES_NAMES = tuple(
    """road,sidewalk,parking,rail track,building,wall,fence,guard rail,bridge,tunnel,pole,polegroup,
    traffic light,traffic sign,vegetation,terrain,sky,person,rider,car,truck,bus,caravan,trailer,train,
    motorcycle,bicycle""".replace("\n    ", "").split(",")
)


@dataclass(frozen=True)
class Benchmark:
    """Files, and how their values become the benchmark's classes."""

    source: ImageSource
    class_names: tuple[str, ...]
    lookup: Int[np.ndarray, "256"]
    crop: int = CROP


def coco_stuff27(root: str) -> Benchmark:
    """COCO-Stuff with 27 coarse classes; ValueError for files that are missing or say something else."""
    folder = Path(root).expanduser()
    ids = [line.strip() for line in read_lines(_required(folder / "val_ids.txt")) if line.strip()]
    images = [folder / "val2017" / f"{one}.jpg" for one in ids]
    masks = [folder / "stuffthingmaps" / "val2017" / f"{one}.png" for one in ids]
    return Benchmark(_source(folder, images, masks), COCO_NAMES, _coarse(folder / "fine_to_coarse.json"))


def cityscapes(root: str) -> Benchmark:
    """Cityscapes' validation images with 27 classes; ValueError for files that are missing."""
    folder = Path(root).expanduser()
    images = sorted((folder / "leftImg8bit" / "val").glob("*/*_leftImg8bit.png"))
    stem = "_leftImg8bit.png"
    masks = [
        folder / "gtFine" / "val" / path.parent.name / path.name.replace(stem, "_gtFine_labelIds.png")
        for path in images
    ]
    lookup = np.full(256, IGNORE, dtype=np.int64)
    lookup[FIRST : LAST + 1] = np.arange(LAST + 1 - FIRST)
    return Benchmark(_source(folder, images, masks), CITYSCAPES_NAMES, lookup)


def _coarse(path: Path) -> Int[np.ndarray, "256"]:
    lookup = np.full(256, IGNORE, dtype=np.int64)
    try:
        for fine, coarse in read_json(_required(path))["fine_index_to_coarse_index"].items():
            if not (0 <= int(fine) < IGNORE and 0 <= int(coarse) < len(COCO_NAMES)):
                raise ValueError(f"{fine} to {coarse}")
            lookup[int(fine)] = int(coarse)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not map fine to coarse indices: {error!r}") from error
    return lookup


def _required(path: Path) -> Path:
    if not path.is_file():
        raise OSError(f"there is no {path}")
    return path


def _source(root: Path, images: Sequence[Path], masks: Sequence[Path]) -> ImageSource:
    missing = [path for path in (*images, *masks) if not path.is_file()]
    if missing:
        raise ValueError(f"{len(missing)} files are missing, the first of them {missing[0]}")
    if not images:
        raise ValueError(
            f"{root} has no images where they were expected; see eval/segmentation/benchmarks.py"
        )
    nothing = [None] * len(images)
    return FolderImages(Table(root.name, nothing, nothing, has_masks=True), root, images, masks)


BENCHMARKS: dict[str, Callable[[str], Benchmark]] = {"coco-stuff27": coco_stuff27, "cityscapes": cityscapes}
