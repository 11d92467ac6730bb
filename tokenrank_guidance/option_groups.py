"""Options that programs have in common: which model, and where it runs; and what goes with what."""

from __future__ import annotations

from argparse import (
    SUPPRESS,
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    _ArgumentGroup,
)
from collections.abc import Iterable
from functools import cache
from typing import Any, NoReturn

from tokenrank_guidance.messages import say
from tokenrank_guidance.options import named
from tokenrank_guidance.schedulers import SCHEDULERS

DTYPE_NAMES = ("float32", "float16", "bfloat16")
MOST_STEPS = 10_000


def keep_working(group: ArgumentParser | _ArgumentGroup, old: str, action: Action) -> None:
    """Let the former name of an option go on working for one version: not in the help, with a warning."""
    shared: dict[str, Any] = {name: getattr(action, name) for name in ("dest", "type", "nargs", "choices")}
    renamed = group.add_argument(old, action=_Renamed, default=SUPPRESS, help=SUPPRESS, **shared)
    renamed.successor = action  # pyright: ignore[reportAttributeAccessIssue]


class _Renamed(Action):
    """Stores the value where its `successor` does, which is then not required any more, and taken no more."""

    successor: Action

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: Any = None) -> None:
        new = self.successor.option_strings[0]
        if getattr(namespace, self.dest) != self.successor.default:
            raise ArgumentError(self, f"it is now called {new}: give one of them, once")
        warn_once(f"warning: {option} is now called {new}")
        self.successor.required = False
        self.successor.type = _given_already
        setattr(namespace, self.dest, values)


def _given_already(text: str) -> NoReturn:
    raise ArgumentTypeError("it was given under its former name already: give one of them, once")


@cache
def warn_once(line: str) -> None:
    """Some programs read their arguments twice: before and after they import what is heavy."""
    say(line)


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
    group.add_argument(
        "--dtype", choices=DTYPE_NAMES, default="float32", help="the model's; default: %(default)s"
    )


def refuse_without_effect(arguments: object, names: Iterable[str], why: str) -> None:
    """ValueError for options that were given (are neither None nor False) but would change nothing."""
    values = ((name, getattr(arguments, name)) for name in names)
    given = [
        "--" + name.replace("_", "-") for name, value in values if value is not None and value is not False
    ]
    if given:
        raise ValueError(f"{', '.join(given)} would have no effect: {why}")
