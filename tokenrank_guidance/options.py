"""The types of options: each checks a value that was given; argparse puts the option before their message.

Nothing here, nor in any module that describes a program's options, imports more than Python's own library:
help and mistakes are there at once.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from tokenrank_guidance.checks import ABOVE_SEEDS, is_damping

MOST_FRACTIONS = 1000
FILES = (".gif", ".jpeg", ".jpg", ".json", ".md", ".pdf", ".png", ".safetensors", ".svg", ".webp")


def between(minimum: int, maximum: int) -> Callable[[str], int]:
    """A parser of whole numbers from `minimum` to `maximum`."""
    expected = f"≥ {minimum}" if maximum == ABOVE_SEEDS - 1 else f"≥ {minimum} and ≤ {maximum}"

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"expected a whole number {expected}, got {text!r}") from None
        if value >= ABOVE_SEEDS:
            raise ArgumentTypeError(f"expected a whole number below 2^63, got {text!r}")
        if not minimum <= value <= maximum:
            raise ArgumentTypeError(f"expected a whole number {expected}, got {text!r}")
        return value

    return whole


def at_least(minimum: int) -> Callable[[str], int]:
    """A parser of whole numbers from `minimum` on that fit into 63 bits, as seeds must."""
    return between(minimum, ABOVE_SEEDS - 1)


positive = at_least(1)


def finite(text: str) -> float:
    """A parser of finite numbers."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def positive_number(text: str) -> float:
    """A parser of finite numbers above 0."""
    value = finite(text)
    if value <= 0:
        raise ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return value


def damping(text: str) -> float:
    """A parser of numbers in (0, 1)."""
    value = finite(text)
    if not is_damping(value):
        raise ArgumentTypeError(f"expected a number in (0, 1), got {text!r}")
    return value


def named(text: str) -> str:
    """A parser of names, which are not empty."""
    if not text.strip():
        raise ArgumentTypeError("expected a name, got an empty one")
    return text


def file(text: str) -> Path:
    """A parser of paths that a system can look up, not the empty one: it would be the folder one is in."""
    try:
        path = Path(named(text)).expanduser()
        path.exists()
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # too long, a zero byte, an unknown user's home
        reason = getattr(error, "strerror", None) or error
        raise ArgumentTypeError(f"expected a path, got {text[:80]!r}: {reason}") from None
    return path


def existing(text: str) -> Path:
    """A file or folder that is there."""
    path = file(text)
    if not path.exists():
        raise ArgumentTypeError(f"there is no file or folder {text}")
    return path


def folder(text: str) -> Path:
    """A parser of folders to write to: not one with a file's name, nor a file that is there."""
    path = file(text)
    if path.suffix.lower() in FILES and not path.is_dir():
        raise ArgumentTypeError(f"expected a folder, got {text!r}, which is a file's name")
    return path


def layer(text: str) -> str | int:
    """A layer's index or its name."""
    try:
        return int(text)
    except ValueError:
        return named(text)


def names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names from `known`, or "all"; each is taken once, in the given order."""
    choice = tuple(known)

    def parse(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        unknown = [name for name in given if name not in choice and name != "all"]
        if unknown or not given:
            wrong = ", ".join(unknown) or "nothing"
            raise ArgumentTypeError(f"got {wrong}; expected some of {', '.join(choice)}, or all")
        return choice if "all" in given else given

    return parse


def words(text: str) -> tuple[str, ...]:
    """A parser of comma-separated words, at least one; each is taken once, in the given order."""
    given = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not given:
        raise ArgumentTypeError(f"got {text!r}; expected one or more, separated by commas")
    return given


def fractions(text: str) -> tuple[float, ...]:
    """Rising fractions in [0, 1]: a list ".1,.2,.5", or "first:last:step" with both ends, ".1:.9:.1"."""
    try:
        values = _stepped(text) if ":" in text else [float(part) for part in text.split(",")]
    except (ValueError, OverflowError):
        values = []
    rising = all(a < b for a, b in pairwise(values))
    if not values or not rising or not all(0 <= value <= 1 for value in values):
        raise ArgumentTypeError(f"got {text!r}; expected rising fractions in [0, 1], as .1,.2,.5 or .1:.9:.1")
    return tuple(values)


def _stepped(text: str) -> list[float]:
    first, last, step = (float(part) for part in text.split(":"))
    if not step > 0:
        raise ValueError("a step must be positive")
    count = int((last - first) / step + 1e-9) + 1
    if count > MOST_FRACTIONS:
        raise ArgumentTypeError(
            f"got {text!r}, which is {count} fractions; expected at most {MOST_FRACTIONS}"
        )
    return [round(first + i * step, 10) for i in range(count)]
