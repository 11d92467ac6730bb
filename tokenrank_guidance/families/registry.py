"""Every model family that is known: `FAMILIES` of each module of this package.

They are found by class name, so that no model class is imported here.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from torch import nn

from tokenrank_guidance import families
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Picture
from tokenrank_guidance.families.refused import REFUSED
from tokenrank_guidance.families.refused_pipelines import REFUSED_PIPELINES
from tokenrank_guidance.families.tokens import Tokens
from tokenrank_guidance.families.words import Words

FAMILIES: list[Family] = [
    family
    for found in iter_modules(families.__path__, f"{families.__name__}.")
    for family in getattr(import_module(found.name), "FAMILIES", ())
]
USUAL = Habits()
Part = TypeVar("Part", Tokens, Calling, Picture)
VERBS = {Tokens: "capture", Calling: "guide", Picture: "segment with"}
UNKNOWN = {
    Tokens: "where its tokens are is not known here",
    Calling: "how it is called is not known here",
    Picture: "how a picture is put into it is not known here",
}


def family_of(model: nn.Module) -> Family | None:
    """The family of the model's class, or of its nearest base that is listed; None where there is none."""
    for base in type(model).__mro__:
        family = next((family for family in FAMILIES if family.holds(base)), None)
        if family is not None or base.__name__ in REFUSED:
            return family
    return None


def knows(family: Family | None, kind: type[Part]) -> Part | None:
    """What is known of a family in one respect."""
    if family is None:
        return None
    parts = (family.tokens, family.calling, family.picture)
    return next((part for part in parts if isinstance(part, kind)), None)


def part_of(model: nn.Module, kind: type[Part]) -> Part:
    """What must be known of a model to do something with it.

    Raises UnsupportedError where it is not, in one form for all: "cannot guide UNet1DModel: " and
    why; TypeError for what is no network.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            "expected a network such as a vision transformer, pipe.unet or pipe.transformer, "
            f"got {type(model).__name__}"
        )
    part = knows(family_of(model), kind)
    if part is None:
        raise UnsupportedError(f"cannot {VERBS[kind]} {type(model).__name__}: {_reason(model, kind)}")
    return part


def _reason(model: nn.Module, kind: type[Part]) -> str:
    listed = (REFUSED[base.__name__] for base in type(model).__mro__ if base.__name__ in REFUSED)
    known = ", ".join(str(family) for family in FAMILIES if knows(family, kind))
    return next(listed, f"{UNKNOWN[kind]}; known: {known}")


def tokens_of(model: nn.Module) -> Tokens:
    """Where the tokens of a network are; UnsupportedError where that is not known."""
    return part_of(model, Tokens)


def calling_of(model: nn.Module) -> Calling:
    """How a denoiser is called; UnsupportedError where that is not known."""
    return part_of(model, Calling)


def picture_of(pipe: Any) -> Picture:
    """How a picture is put into a pipeline's denoiser; UnsupportedError where that is not known."""
    return part_of(denoiser_of(pipe), Picture)


def takes_pictures(pipe: Any) -> bool:
    """Whether it is known how a picture is put into the pipeline's denoiser."""
    return knows(family_of(denoiser_of(pipe)), Picture) is not None


def reads_text(pipe: Any) -> bool:
    """Whether it is known how the pipeline's denoiser reads text."""
    family = family_of(denoiser_of(pipe))
    return family is not None and family.words is not None


def words_of(pipe: Any) -> Words:
    """How a pipeline's denoiser reads text; UnsupportedError where it reads none, or no word is found."""
    family = family_of(denoiser_of(pipe))
    if family is not None and family.wordless:
        raise UnsupportedError(f"no word is found in {type(pipe).__name__}: {family.wordless}")
    if family is None or family.words is None:
        picture_of(pipe)
        raise UnsupportedError(f"{type(pipe).__name__} reads no text, so it cannot name segments")
    return family.words


def prompt_row(pipe: Any) -> int:
    """The row that is under the prompt where both halves of classifier-free guidance share a batch."""
    family = family_of(denoiser_of(pipe))
    return 0 if family is not None and family.calling is not None and family.calling.unconditional else -1


def packing_of(pipe: Any) -> int:
    """Latent pixels a side that the pipeline puts into a token before its denoiser does; 1 for none."""
    family = family_of(denoiser_of(pipe))
    return 1 if family is None else family.packing


def habits_of(pipe: Any) -> Habits:
    """Those of the pipeline's class, or of its nearest base that is listed; else the usual ones."""
    for base in type(pipe).__mro__:
        for family in FAMILIES:
            if base.__name__ in family.pipelines:
                return family.pipelines[base.__name__]
        if base.__name__ in REFUSED_PIPELINES:
            return Habits(refused=REFUSED_PIPELINES[base.__name__])
    return USUAL


def guidable(pipe: Any) -> Habits:
    """The same; UnsupportedError, with the reason, for a pipeline that cannot be guided."""
    habits = habits_of(pipe)
    if habits.refused:
        raise UnsupportedError(f"cannot guide {type(pipe).__name__}: {habits.refused}")
    scheduler = type(getattr(pipe, "scheduler", None)).__name__
    if habits.schedulers and scheduler not in habits.schedulers:
        raise UnsupportedError(
            f"cannot guide {type(pipe).__name__} with {scheduler}: its denoiser is not told that scheduler's "
            f"timesteps; supported: {', '.join(habits.schedulers)}"
        )
    return habits
