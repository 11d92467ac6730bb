"""How much is read of what comes from outside; an environment variable raises each limit."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The largest number that is accepted: that of the environment `variable`, else `default`."""

    variable: str
    default: int

    @property
    def value(self) -> int:
        """ValueError where the environment has something else than a whole number from 1 on."""
        text = os.environ.get(self.variable, str(self.default))
        if not text.isascii() or not text.isdecimal() or not 0 < len(text) < 19 or int(text) < 1:
            raise ValueError(f"the environment's {self.variable} is {text!r}; expected a whole number ≥ 1")
        return int(text)

    @property
    def how(self) -> str:
        """What is said where something is too large."""
        return f"the limit is {self.value}; set {self.variable} to raise it"

    def check(self, count: int, what: str) -> None:
        """ValueError for more: `what` is a sentence without its end, "it has 9×9 pixels"."""
        if count > self.value:
            raise ValueError(f"{what}; {self.how}")


PIXELS = Limit("TOKENRANK_MOST_PIXELS", 2**26)  # of one picture: 8192 × 8192
BYTES = Limit("TOKENRANK_MOST_BYTES", 2**28)  # of one file that is read whole
IMAGES = Limit("TOKENRANK_MOST_IMAGES", 2**25)  # of one data set
LINKS = "TOKENRANK_FOLLOW_LINKS"


def follows_links() -> bool:
    """Whether links that lead out of a folder of data are followed: if the environment says so."""
    return os.environ.get(LINKS) == "1"
