"""Options that commands share, and types that check a value; argparse puts its name before their message.

Nothing here, nor in any module that describes a command's options, imports more than Python's own library:
help and mistakes are there at once.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, _ArgumentGroup
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenrank_guidance.checks import ABOVE_SEEDS, is_damping
from tokenrank_guidance.commands.schedulers import SCHEDULERS

DTYPES = ("float32", "float16", "bfloat16")
MOST_STEPS = 10_000
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
    ) as error:  # too long, a zero byte in it, an unknown user's home
        reason = getattr(error, "strerror", None) or error
        raise ArgumentTypeError(f"expected a path, got {text[:80]!r}: {reason}") from None
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


def add_model_arguments(parser: ArgumentParser, samples: bool = True) -> None:
    """Which model, how it samples, if it does, and where it runs."""
    parser.set_defaults(scheduler=None)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        type=named,
        metavar="NAME|PATH|HUB_ID",
        help="tiny-flux, tiny-sd, a pipeline's folder or Hub id",
    )
    if samples:
        group.add_argument(
            "--scheduler",
            choices=SCHEDULERS,
            metavar="NAME",
            help=f"{', '.join(SCHEDULERS)}; the model's own",
        )
    add_device_arguments(group)


def add_device_arguments(group: ArgumentParser | _ArgumentGroup) -> None:
    """Where a model runs, and in what numbers."""
    group.add_argument(
        "--device", type=named, default="auto", help="cpu, cuda, cuda:1, mps, …; the GPU where there is one"
    )
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="the model's; default: %(default)s")


def refuse_without_effect(arguments: object, names: Iterable[str], why: str) -> None:
    """ValueError for options that were given (are neither None nor False) but would change nothing."""
    values = ((name, getattr(arguments, name)) for name in names)
    given = [
        "--" + name.replace("_", "-") for name, value in values if value is not None and value is not False
    ]
    if given:
        raise ValueError(f"{', '.join(given)} would have no effect: {why}")
