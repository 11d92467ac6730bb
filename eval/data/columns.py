"""The columns of a table that holds images: which is what, and how labels are spelt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IMAGE_COLUMNS = ("image", "img")


@dataclass(frozen=True)
class Columns:
    """The names of the columns; None where there is none."""

    image: str
    mask: str | None
    label: str | None
    wnid: str | None

    @property
    def encoded(self) -> list[str]:
        """The columns that hold encoded images."""
        return [self.image] if self.mask is None else [self.image, self.mask]


def find_columns(present: Sequence[str], where: object) -> Columns:
    """Which of the columns `present` is which; raises ValueError if none can be the images."""
    image = next((name for name in IMAGE_COLUMNS if name in present), None)
    if image is None:
        raise ValueError(
            f"{where} has no image column: it has {', '.join(present) or 'none'}; expected image"
        )
    mask, label, wnid = (name if name in present else None for name in ("mask", "label", "wnid"))
    return Columns(image, mask, label, wnid)


def spelt(values: Iterable[object], names: Sequence[str]) -> list[str | None]:
    """Labels as names: an index through `names` where there are any, None and −1 as no label."""
    return [_spelt(value, names) for value in values]


def _spelt(value: object, names: Sequence[str]) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and names:
        if value >= len(names):
            raise ValueError(f"label {value} has no name; there are {len(names)} names")
        return names[value] if value >= 0 else None  # −1 stands for "not published"
    return str(value)
