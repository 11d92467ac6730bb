"""The side of a vision transformer's patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

Side = tuple[int, int]


def patch_side(model: nn.Module) -> Side:
    """(h, w) in pixels of one patch of a model of transformers or timm; ValueError for one that does not say.

    It cannot be had from a picture and its grid: 110 pixels hold 6 patches of 16, or of 17 or 18.
    """
    own: Any = getattr(getattr(model, "patch_embed", None), "patch_size", None)  # timm
    if own is None:
        config: Any = getattr(model, "config", None)
        own = getattr(getattr(config, "vision_config", config), "patch_size", None)
    side = (own, own) if isinstance(own, int) else tuple(own) if isinstance(own, Sequence) else ()
    if len(side) != 2 or not all(isinstance(one, int) and one > 0 for one in side):
        raise ValueError(f"{type(model).__name__} does not tell the side of its patches: got {own!r}")
    return side[0], side[1]
