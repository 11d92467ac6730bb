"""The options that experiments share, spelt alike in all of them.

An experiment's options are one frozen dataclass, which extends `Inputs`, `Running` and maybe others by fields
of its own: each is an `option`, what `--its-name` comes to. The class's docstring describes the program.
Nothing here imports more than Python's own library: help and mistakes are there at once.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from inspect import get_annotations
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from eval.data.choice import Which
from tokenrank_guidance.option_groups import DTYPE_NAMES, keep_working
from tokenrank_guidance.options import at_least, existing, folder, layer, named, positive, words
from tokenrank_guidance.program import parser_of

Layers = str | tuple[str | int, ...]
Options = TypeVar("Options")
STEPS = 1000  # of training, that timesteps are counted in


def option(default: Any = None, **keywords: Any) -> Any:
    """A field that is an option; the `keywords` are those of argparse's `add_argument`."""
    return field(default=default, metadata=keywords)


def required(**keywords: Any) -> Any:
    """A field that is an option without a default."""
    return field(metadata={"required": True, **keywords})


def model(takes: str) -> Any:
    return required(type=named, metavar="NAME|PATH|HUB_ID", help=takes)


def data(takes: str) -> Any:
    return required(type=named, metavar="FILE|FOLDER|DATASET", help=takes)


def size(default: str) -> Any:
    return option(type=positive, metavar="PIXELS", help=f"√(pixels) that the model works at; {default}")


def pictures(default: int, shown: str) -> Any:
    return option(default, type=at_least(0), metavar="N", help=shown)


def layers(purpose: str) -> Any:
    return option(type=layer_names, metavar="LAYERS", help=f"all, auto, or indices and names; {purpose}")


def timesteps(default: str) -> Any:
    return option(type=timestep_list, metavar="LIST", help=f"of {STEPS}; {default}")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A model, and which images of a source it sees: of `rows`, the first `limit`."""

    TITLE: ClassVar[str] = "model and data"

    model: str
    data: str
    split: str | None = option(type=named, help="of the folder or the dataset")
    rows: Which = option("all", choices=get_args(Which), help="default: %(default)s")
    limit: int | None = option(type=positive, metavar="N", help="the first N of these rows")


@dataclass(frozen=True, kw_only=True)
class ObjectNames:
    """What the object of each image is called: one word for all, or a file with one a line."""

    TITLE: ClassVar[str] = "objects"

    concept: str | None = option(
        type=named, metavar="WORD", help="the object's name, where the data have no labels"
    )
    names: Path | None = option(
        type=existing,
        metavar="FILE",
        help="the object's name of each picture, one a line; of a folder in the order of its files",
    )


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where results go, what random choices start from, and where the model runs in what numbers."""

    TITLE: ClassVar[str] = "running; under accelerate launch, images are split among the processes"

    out: Path = required(type=folder, metavar="DIR", help="folder for results")
    seed: int | None = option(type=at_least(0), metavar="N", help="of all that is random; 0")
    device: str = option("auto", type=named, help="cpu, cuda, cuda:1, mps, …; the GPU where there is one")
    dtype: str = option("float32", choices=DTYPE_NAMES, help="the model's; default: %(default)s")


def read(options: type[Options], prog: str, argv: Sequence[str], renamed: Mapping[str, str]) -> Options:
    """What is asked of a program, ValueError for a mistake; `renamed`: names of before to those of fields."""
    parser = parser_of(prog, options.__doc__)
    owners = {name: kind for kind in options.__mro__ for name in get_annotations(kind)}
    groups = {kind: parser.add_argument_group(kind.TITLE) for kind in reversed(options.__mro__[:-1])}
    added = {}
    for one in fields(options):  # pyright: ignore[reportArgumentType]  all are dataclasses
        default = None if one.default is MISSING else one.default
        name = "--" + one.name.replace("_", "-")
        added[one.name] = groups[owners[one.name]].add_argument(name, default=default, **one.metadata)
    for old, new in renamed.items():
        keep_working(parser, old, added[new])
    return options(**vars(parser.parse_args(argv)))


def chosen(asked: object, names: Iterable[str]) -> dict[str, Any]:
    """Of these options those that were given, as changes of some defaults."""
    return {name: value for name in names if (value := getattr(asked, name)) is not None}


def layer_names(text: str) -> Layers:
    """A parser of "all", "auto", or comma-separated indices and names."""
    return text if text in ("all", "auto") else tuple(layer(part) for part in words(text))


def timestep_list(text: str) -> tuple[int, ...]:
    """A parser of comma-separated timesteps."""
    parts = words(text)
    if not all(part.isdecimal() and int(part) < STEPS for part in parts):
        raise ArgumentTypeError(f"got {text!r}; expected timesteps of {STEPS}, as 250,500")
    return tuple(int(part) for part in parts)
