"""Every pipeline class of the installed diffusers: what it makes, of which denoisers, and is it guided.

Read off the classes themselves: what a call returns says what is made, the hints of `__init__` (a modular
pipeline's blocks) say of which networks. A reason is what a user is told who enables guidance on such one.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any

import diffusers as d
from torch import nn

from sag import SelfAttentionGuidance, TokenRankGuider
from tests.matrix.modular import BY_THE_GUIDER, BY_THE_HOOK
from tests.matrix.rows import ROWS
from tests.tiny_models import ddim
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.refused import REFUSED
from tokenrank_guidance.families.refused_pipelines import REFUSED_PIPELINES
from tokenrank_guidance.families.registry import habits_of

IMAGES, VIDEO = "images", "video"
MADE = {  # fields of outputs, the first that is there tells
    **dict.fromkeys(("frames", "video", "videos"), VIDEO),
    **dict.fromkeys(("images", "image", "rgb", "prediction"), IMAGES),
    **dict.fromkeys(("audios", "sound"), "sound"),
    **dict.fromkeys(("texts", "sequences"), "text"),
    **dict.fromkeys(
        ("image_embeds", "image_embeddings", "prompt_embeds"), "embeddings, for another pipeline"
    ),
    "coords_nm": "proteins",
}
OTHERWISE = {  # what the name of a field does not tell
    **dict.fromkeys(("TextToVideoZeroPipeline", "TextToVideoZeroSDXLPipeline"), VIDEO),
    **dict.fromkeys(("StableCascadePriorPipeline", "WuerstchenPriorPipeline"), IMAGES),  # as latents
    **dict.fromkeys(("ShapEPipeline", "ShapEImg2ImgPipeline"), "3-D shapes"),
    **dict.fromkeys(("AudioDiffusionPipeline", "SpectrogramDiffusionPipeline"), "sound"),
    "ConsisIDPipeline": VIDEO,
}
UNSEEN = {  # denoisers of classes whose packages may be missing
    **dict.fromkeys(("KolorsPipeline", "KolorsImg2ImgPipeline", "KolorsPAGPipeline"), "UNet2DConditionModel"),
    "ConsisIDPipeline": "ConsisIDTransformer3DModel",
}
DENOISERS = ("unet", "transformer", "image_unet", "prior", "decoder", "model")
BOTH = (d.DiffusionPipeline, d.ModularPipeline)
BASES = tuple(base.__name__ for base in BOTH)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A pipeline class by `name`, what it `makes`, and the class names of its denoisers.

    `rows`: its rows in the matrix, or what guides a modular one in the tests. `refused`: what enabling
    guidance on it says, or its rows where only a call tells; empty where it is guided. `lacks`: packages
    without which diffusers has an empty class.
    """

    name: str
    makes: str
    denoisers: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    refused: str = ""
    lacks: tuple[str, ...] = ()

    @property
    def modular(self) -> bool:
        return self.name.endswith("ModularPipeline")

    @property
    def guided(self) -> bool:
        """A row of its shows it."""
        return not self.refused and bool(self.rows)

    @property
    def open(self) -> bool:
        """Neither a row nor a reason: to be tried."""
        return not self.refused and not self.rows


def key_of(name: str) -> str:
    """What the keys of a class's rows begin with."""
    return name.replace("Pipeline", "")


def rows_of(name: str) -> tuple[str, ...]:
    return tuple(row for row in ROWS if row.partition(",")[0] == key_of(name))


def classes() -> Iterator[tuple[str, Any]]:
    """Pipelines that diffusers exports, also those whose packages are missing."""
    for name in dir(d):
        found: Any = getattr(d, name) if "Pipeline" in name and name not in BASES else None
        if inspect.isclass(found) and (issubclass(found, BOTH) or hasattr(found, "_backends")):
            yield name, found


@cache
def walk() -> tuple[Pipeline, ...]:
    """All of them, by name."""
    return tuple(_read(name, cls) for name, cls in classes())


def _read(name: str, cls: Any) -> Pipeline:
    rows = rows_of(name)
    if not issubclass(cls, BOTH):
        network = UNSEEN.get(name, "")
        why = REFUSED_PIPELINES.get(name) or REFUSED.get(network, "")
        return Pipeline(name, OTHERWISE.get(name, IMAGES), (network,), rows, why, _missing(cls))
    parts = _networks(cls)
    if issubclass(cls, d.ModularPipeline):
        rows = (*_tried(cls().blocks), *rows)
    makes = OTHERWISE.get(name) or next((MADE[one] for one in MADE if one in set(_outputs(cls))), "unknown")
    said = [ROWS[row].refused for row in rows if row in ROWS]
    late = said[0] if said and all(said) else ""
    return Pipeline(name, makes, tuple(dict.fromkeys(parts.values())), rows, _said(cls) or late)


def _tried(blocks: Any) -> tuple[str, ...]:
    ways = {"by the guider": BY_THE_GUIDER, "by the hook": BY_THE_HOOK}
    return tuple(way for way, tried in ways.items() if type(blocks) in tried.values())


def _missing(cls: Any) -> tuple[str, ...]:
    return tuple(one for one in cls._backends if one not in ("torch", "transformers"))


def _outputs(cls: Any) -> list[str]:
    """Names of what a call returns: the fields of its output, or of the outputs of pipelines that it runs."""
    if issubclass(cls, d.ModularPipeline):
        return [one.name for one in cls().blocks.outputs if one.name is not None]
    names = _names_in(cls.__call__)
    found = [one for one in names if dataclasses.is_dataclass(one)]
    if not found:
        inner = {one: None for method in vars(cls).values() for one in _names_in(method)}
        pipelines = (one for one in inner if inspect.isclass(one) and issubclass(one, d.DiffusionPipeline))
        return [field for one in pipelines if one not in cls.__mro__ for field in _outputs(one)]
    return [field.name for one in found for field in dataclasses.fields(one)]


def _names_in(method: Any) -> list[Any]:
    """What the names in a method's code stand for."""
    method = inspect.unwrap(method) if callable(method) else method
    if not inspect.isfunction(method):
        return []
    found = (method.__globals__.get(name) for name in method.__code__.co_names)
    return [one for one in found if inspect.isclass(one)]


def _networks(cls: Any) -> dict[str, str]:
    """Class names of the networks that may denoise, by the names of a pipeline's components."""
    hints = _hints(cls)
    kinds = {name: _kinds(hints[name]) for name in hints if name.removesuffix("_2") in DENOISERS}
    return {name: kind[-1].__name__ for name, kind in kinds.items() if kind}


def _hints(cls: Any) -> dict[str, Any]:
    if issubclass(cls, d.ModularPipeline):
        specs: list[Any] = cls().blocks.expected_components
        return {one.name: one.type_hint for one in specs}
    return typing.get_type_hints(cls.__init__)


def _kinds(hint: Any) -> list[Any]:
    """The networks of a hint; where there are several, the last is what a pipeline turns the others into."""
    parts = typing.get_args(hint) if isinstance(hint, UnionType) or typing.get_origin(hint) else (hint,)
    return [
        one for one in parts if inspect.isclass(one) and one is not NoneType and issubclass(one, nn.Module)
    ]


def without_weights(cls: Any) -> Any:
    """A pipeline of the class whose networks and scheduler are empty."""
    hints = _hints(cls)
    pipe = cls() if issubclass(cls, d.ModularPipeline) else cls.__new__(cls)
    for name, hint in hints.items():
        kinds = _kinds(hint)
        if name.removesuffix("_2") in DENOISERS and kinds:
            network = kinds[-1].__new__(kinds[-1])
            nn.Module.__init__(network)
            object.__setattr__(pipe, name, network)
    own: Any = hints.get("scheduler")
    known = inspect.isclass(own) and issubclass(own, d.SchedulerMixin) and own is not d.SchedulerMixin
    object.__setattr__(pipe, "scheduler", own.__new__(own) if known else ddim())
    return pipe


def _said(cls: Any) -> str:
    """What a user is told who enables guidance on such a pipeline; empty where guidance goes on."""
    pipe = without_weights(cls)
    try:
        if "guider" in getattr(pipe, "component_names", ()) and not habits_of(pipe).mixes_more:
            TokenRankGuider().guide(pipe)
        else:
            SelfAttentionGuidance().enable(pipe)
    except UnsupportedError as error:
        return str(error)
    except Exception:  # whatever comes next: its network has no layers
        pass
    return ""
