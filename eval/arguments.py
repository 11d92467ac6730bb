"""The options that experiments share, spelt alike in all of them, and what they come to.

An experiment's options are a frozen dataclass that extends `Inputs` and `Running`, and maybe `ObjectNames`.
Nothing here imports more than Python's own library: help and mistakes are there at once.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, _ArgumentGroup
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from eval.data.choice import Which
from tokenrank_guidance.messages import say
from tokenrank_guidance.option_groups import add_device_arguments
from tokenrank_guidance.options import at_least, existing, folder, layer, named, positive, words

Layers = str | tuple[str | int, ...]
STEPS = 1000  # of training, that timesteps are counted in


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A model, and which images of a source it sees: of `rows`, the first `limit`."""

    model: str
    data: str
    split: str | None
    rows: Which
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class ObjectNames:
    """What the object of each image is called: one word for all, or a file with one a line."""

    concept: str | None
    names: Path | None


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where results go, what random choices start from, and where the model runs in what numbers."""

    out: Path
    seed: int | None
    device: str
    dtype: str


def add_inputs(parser: ArgumentParser, model: str, data: str) -> _ArgumentGroup:
    """`Inputs`; `model` and `data` say what the experiment takes."""
    group = parser.add_argument_group("model and data")
    group.add_argument("--model", type=named, required=True, metavar="NAME|PATH|HUB_ID", help=model)
    group.add_argument("--data", type=named, required=True, metavar="FILE|FOLDER|DATASET", help=data)
    group.add_argument("--split", type=named, help="of the folder or the dataset")
    group.add_argument("--rows", choices=get_args(Which), default="all", help="default: %(default)s")
    group.add_argument("--limit", type=positive, metavar="N", help="the first N of these rows")
    return group


def add_size(group: _ArgumentGroup, default: str) -> None:
    group.add_argument(
        "--size", type=positive, metavar="PIXELS", help=f"√(pixels) that the model works at; {default}"
    )


def add_object_names(group: _ArgumentGroup) -> None:
    """`ObjectNames`."""
    group.add_argument(
        "--concept", type=named, metavar="WORD", help="the object's name, where the data have no labels"
    )
    group.add_argument(
        "--names", type=existing, metavar="FILE", help="the object's name of each picture, one a line"
    )


def add_layers(group: _ArgumentGroup, purpose: str) -> None:
    group.add_argument(
        "--layers", type=layers, metavar="LAYERS", help=f"all, auto, or indices and names; {purpose}"
    )


def add_timesteps(group: _ArgumentGroup, default: str) -> None:
    group.add_argument("--timesteps", type=timesteps, metavar="LIST", help=f"of {STEPS}; {default}")


def add_running(parser: ArgumentParser, seed: str) -> _ArgumentGroup:
    """`Running`; `seed` says what is random."""
    group = parser.add_argument_group("running")
    group.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results")
    group.add_argument("--seed", type=at_least(0), metavar="N", help=f"of {seed}; 0")
    add_device_arguments(group)
    return group


def add_pictures(group: _ArgumentGroup, default: int, shown: str) -> None:
    """How many pictures are drawn; `shown` says which."""
    group.add_argument("--pictures", type=at_least(0), default=default, metavar="N", help=shown)


def read(parser: ArgumentParser, argv: Sequence[str], renamed: Mapping[str, str]) -> Namespace:
    """Parse the arguments, in which options go by their names of before, too: old and new ones of `renamed`.

    Each of those is warned of in one line. Raises ValueError for a mistake, and for two names of one option.
    """
    given, current = {}, []
    for part in argv:
        old, equals, value = part.partition("=")
        new = renamed.get(old, old)
        if new in renamed.values() and given.setdefault(new, old) != old:
            raise ValueError(f"{given[new]} and {old} are one option, {new}: give it once")
        if new != old:
            _say_renamed(old, new)
        current.append(new + equals + value)
    return parser.parse_args(current)


@cache
def _say_renamed(old: str, new: str) -> None:
    """Once, as a program reads its arguments before and after it imports what is heavy."""
    say(f"warning: {old} is now {new}; the old name goes with the next version")


def chosen(asked: object, names: Iterable[str]) -> dict[str, Any]:
    """Of these options those that were given, as changes of some defaults."""
    return {name: value for name in names if (value := getattr(asked, name)) is not None}


def layers(text: str) -> Layers:
    """A parser of "all", "auto", or comma-separated indices and names."""
    return text if text in ("all", "auto") else tuple(layer(part) for part in words(text))


def timesteps(text: str) -> tuple[int, ...]:
    """A parser of comma-separated timesteps."""
    parts = words(text)
    if not all(part.isdecimal() and int(part) < STEPS for part in parts):
        raise ArgumentTypeError(f"got {text!r}; expected timesteps of {STEPS}, as 250,500")
    return tuple(int(part) for part in parts)
