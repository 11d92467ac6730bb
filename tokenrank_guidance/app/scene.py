"""What a view looks like, as plain arrays: the page draws it, and so do pictures and files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

ENDS = (0.01, 0.99)  # quantiles of a map that are darkest and brightest; attention sinks are clipped
MOST_SHOWN = 1024  # pixels a side; larger pictures are shown smaller

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Heat:
    """One map: `values` (h, w) on the token grid and `beside`, of the tokens that are not in the image.

    `low` and `high` are the ends of its colours, in its own unit; `note` says what it is.
    """

    name: str
    values: Float[np.ndarray, "h w"]
    low: float
    high: float
    note: str = ""
    beside: Float[np.ndarray, " others"] = field(default_factory=lambda: np.zeros(0, np.float32))

    @classmethod
    def of(cls, name: str, values: Float[Tensor, "h w"], note: str = "", **more: Any) -> Heat:
        """With the ends of its colours at the quantiles `ENDS`."""
        found = values.detach().to("cpu", torch.float32).numpy()
        low, high = (float(end) for end in np.quantile(found, ENDS))
        return cls(name, found, low, max(high, low + 1e-12), note, **more)

    def to_json(self) -> Json:
        return {
            "name": self.name,
            "values": packed(self.values),
            "low": self.low,
            "high": self.high,
            "note": self.note,
            "beside": packed(self.beside),
        }


@dataclass(frozen=True, eq=False)
class Tile:
    """One head of one layer, small, by its λ2."""

    layer: str
    head: int
    lambda2: float
    heat: Heat

    def to_json(self) -> Json:
        grid = list(self.heat.values.shape)
        return {"layer": self.layer, "head": self.head, "lambda2": self.lambda2, "grid": grid} | {
            "heat": self.heat.to_json()
        }


@dataclass(frozen=True, eq=False)
class Scene:
    """A view of one state.

    picture: what lies under the maps. heats: shown one at a time, `shown` first; `unit` is what their values
    times `factor` are in. others: (token, text) of the tokens beside the image, and `first` is the token of
    the grid's corner. token, region, anchors: marked places, as numbers of tokens of the map, of the image,
    and (row, column). images: pictures by name, to compare; labels: colours over the picture. tiles: heads.
    chain: the matrix that walks go through, for a page without a server. facts: numbers in words.
    """

    view: str
    picture: Image.Image
    title: str
    facts: tuple[str, ...] = ()
    heats: tuple[Heat, ...] = ()
    shown: int = 0
    unit: str = ""
    factor: float = 1.0
    others: tuple[tuple[int, str], ...] = ()
    first: int = 0
    token: int | None = None
    region: tuple[int, ...] = ()
    anchors: tuple[tuple[int, int], ...] = ()
    images: dict[str, Image.Image] = field(default_factory=dict)
    tiles: tuple[Tile, ...] = ()
    names: tuple[str, ...] = ()
    grid: tuple[int, int] = (0, 0)
    total: int = 0
    legend: tuple[tuple[str, str], ...] = ()

    def to_json(self, pictures: bool = True) -> Json:
        """For the page; without its `pictures` where it has them already."""
        width, height = self.picture.size
        plain = {
            name: getattr(self, name)
            for name in (
                *("view", "title", "facts", "shown", "unit", "factor", "others", "first", "token", "region"),
                *("anchors", "grid", "total", "legend"),
            )
        }
        return plain | {
            "size": [width, height],
            "picture": data_url(self.picture) if pictures else None,
            "heats": [heat.to_json() for heat in self.heats],
            "tiles": [tile.to_json() for tile in self.tiles],
            "images": {name: data_url(image) for name, image in self.images.items()},
        }

    def frame(self, number: int) -> Scene:
        """With another of its maps shown."""
        return replace(self, shown=number)


def packed(values: np.ndarray) -> str:
    """Little-endian float32 in row-major order, as base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def data_url(image: Image.Image) -> str:
    """A picture inside an address."""
    shown = image.convert("RGBA" if image.mode in ("RGBA", "LA", "P") else "RGB")
    if max(shown.size) > MOST_SHOWN:
        shown.thumbnail((MOST_SHOWN, MOST_SHOWN), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    shown.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
