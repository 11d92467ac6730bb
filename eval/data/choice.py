"""Which images of a source an experiment uses."""

from __future__ import annotations

from collections.abc import Sized
from typing import Literal, get_args

Which = Literal["all", "even", "odd"]
START_STEP = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}


def rows(source: Sized, which: Which = "all", limit: int | None = None) -> list[int]:
    """Indices of all, the even or the odd images; of these the first `limit`.

    Choices are made on the even images and reported on the odd ones. Raises ValueError for another `which`,
    or a limit below 1.
    """
    if which not in START_STEP:
        raise ValueError(f"rows {which!r} are unknown; expected one of {', '.join(get_args(Which))}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1")
    start, step = START_STEP[which]
    return list(range(start, len(source), step)[:limit])
