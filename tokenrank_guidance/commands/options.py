"""Options that commands share, and types that check a value; argparse puts its name before their message."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

from tokenrank_guidance.commands.models import DTYPES
from tokenrank_guidance.commands.schedulers import SCHEDULERS


def at_least(minimum: int) -> Callable[[str], int]:
    """A parser of whole numbers from `minimum` on that fit into 63 bits, as seeds must."""

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value < 2**63:
            raise ArgumentTypeError(f"expected a whole number ≥ {minimum}, got {text!r}")
        return value

    return whole


def finite(text: str) -> float:
    """A parser of finite numbers."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def layer(text: str) -> str | int:
    """A layer's index or its name."""
    try:
        return int(text)
    except ValueError:
        return text


def add_model_arguments(parser: ArgumentParser) -> None:
    """Which model, how it samples and where it runs."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="NAME|PATH|HUB_ID", help="tiny-flux, tiny-sd, a pipeline's folder or Hub id"
    )
    group.add_argument(
        "--scheduler", choices=SCHEDULERS, metavar="NAME", help=f"{', '.join(SCHEDULERS)}; the model's own"
    )
    group.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps, …; the GPU where there is one"
    )
    group.add_argument("--dtype", default="float32", choices=DTYPES, help="default: %(default)s")
