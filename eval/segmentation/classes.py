"""What a mask's values are called, and which class of the data set each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from eval.data import ImageSource
from eval.segmentation.scenes import Scenes
from eval.segmentation.tally import ClassTally

BACKGROUND = "background"


@dataclass(frozen=True)
class Classes:
    """Names, and for pictures whose foreground is their label's class, that class by picture."""

    names: tuple[str, ...]
    foreground: Mapping[int, int] = field(default_factory=dict)

    def place(self, index: int, tallies: Sequence[ClassTally]) -> list[ClassTally]:
        """The tallies of picture `index`, by the data set's classes."""
        return [replace(one, index=self._class(index, one.index)) for one in tallies]

    def columns(
        self, index: int, overlap: Int[np.ndarray, "segments values"]
    ) -> Int[np.ndarray, "segments classes"]:
        """The overlaps of picture `index`, by the data set's classes."""
        placed = np.zeros((len(overlap), len(self.names)), dtype=overlap.dtype)
        for value in range(overlap.shape[1]):
            placed[:, self._class(index, value)] += overlap[:, value]
        return placed

    def _class(self, index: int, value: int) -> int:
        return self.foreground.get(index, value) if value == 1 else value


def name_classes(scenes: Scenes, values: int) -> Classes:
    """Names for masks whose values are below `values`: given, the benchmark's, or found.

    Masks of 0 and 1 are background and object; where pictures have labels, the object is of its label's
    class. Raises ValueError for fewer names than values.
    """
    if scenes.class_names:
        if len(scenes.class_names) < values:
            raise ValueError(
                f"{len(scenes.class_names)} class names for masks with values up to {values - 1}"
            )
        return Classes(scenes.class_names)
    if values > 2:
        return Classes(tuple(str(value) for value in range(values)))
    return _figure_and_ground(scenes.source)


def _figure_and_ground(source: ImageSource) -> Classes:
    if any(label is None for label in source.labels):
        return Classes((BACKGROUND, "object"))
    order = {name: i for i, name in enumerate(source.label_names, 1)}
    foreground = {i: order[str(label)] for i, label in enumerate(source.labels)}
    return Classes((BACKGROUND, *source.label_names), foreground)
