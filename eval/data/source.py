"""What every source of images offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int
from PIL import Image

from eval.data.decode import decode_mask
from tokenrank_guidance.errors import TokenRankError
from tokenrank_guidance.files.pictures import decode_image


class UnreadableImage(TokenRankError):  # noqa: N818  it says what is the matter with the image
    """An image that is missing or cannot be decoded: its `index`, why, and its `file` if it has one."""

    def __init__(self, index: int, reason: str, file: str | None = None) -> None:
        super().__init__(index, reason, file)
        self.index, self.reason, self.file = index, reason, file

    def __str__(self) -> str:
        name = "" if self.file is None else f" ({self.file})"
        return f"image {self.index}{name} cannot be read: {self.reason}"


@dataclass(frozen=True)
class Example:
    """One image (RGB, upright) with what is known of it; a mask has the image's size, and 255 = ignore."""

    index: int
    image: Image.Image
    label: str | None
    wnid: str | None
    mask: Int[np.ndarray, "h w"] | None


@dataclass(frozen=True)
class Table:
    """What is known of every image before any is decoded.

    `label_names` are in the order of the source's own class indices where it has those, else sorted.
    """

    name: str
    labels: Sequence[str | None]
    wnids: Sequence[str | None]
    label_names: tuple[str, ...] = field(default=())
    has_masks: bool = False


class ImageSource(ABC):
    """Images by index, each decoded only when it is asked for.

    `source[i]` raises UnreadableImage where image i cannot be decoded, IndexError beyond the end. Can be
    pickled and forked, so that a DataLoader's workers may read from it.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    @property
    def name(self) -> str:
        """What was opened: a file's or folder's name, or the Hub's."""
        return self._table.name

    @property
    def labels(self) -> Sequence[str | None]:
        """The label of each image, without decoding it."""
        return self._table.labels

    @property
    def wnids(self) -> Sequence[str | None]:
        """The WordNet id of each image, without decoding it."""
        return self._table.wnids

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes: in the source's own order where it has one, else sorted."""
        return self._table.label_names or tuple(sorted({label for label in self.labels if label is not None}))

    @property
    def label_wnids(self) -> dict[str, str]:
        """The WordNet id of each label that has one."""
        pairs = zip(self.labels, self.wnids, strict=True)
        return {label: wnid for label, wnid in pairs if label is not None and wnid is not None}

    @property
    def has_masks(self) -> bool:
        """Whether images come with masks."""
        return self._table.has_masks

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the contents: sources of the same digest hold the same images."""

    @abstractmethod
    def encoded(self, index: int) -> tuple[bytes, bytes | None]:
        """The files of image `index` and of its mask, undecoded; raises OSError or ValueError."""

    def file(self, index: int) -> str | None:
        """The name of image `index`'s file, where it has one."""
        return None

    def unreadable(self, index: int, reason: str) -> UnreadableImage:
        """The error that says why image `index` cannot be used."""
        return UnreadableImage(index, reason, self.file(index))

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        try:
            image, mask = self.encoded(index)
            picture = decode_image(image)
            values = None if mask is None else decode_mask(mask, picture.size)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise self.unreadable(index, reason or type(error).__name__) from error
        return Example(index, picture, self.labels[index], self.wnids[index], values)
