"""One model family: everything that the rest of this project must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.picture import Picture
from tokenrank_guidance.families.tokens import Tokens
from tokenrank_guidance.families.words import Words


@dataclass(frozen=True)
class Family:
    """Networks that are read and called in one way.

    models: their class names, of `package` where other packages use the same names; classes derived from them
        belong to the family too, unless they are listed themselves.
    tokens: where its tokens are, for capturing attention.
    calling: how samplers call it, for guidance. picture: how a picture is put into it, for segmentation.
        words: how it reads text, for naming segments. None where it has no such thing, or it is not known.
    wordless: why no word of a caption is found in it, empty where words are, or nothing is known.
    packing: latent pixels a side that pipelines put into a token, in place of the configuration's
        `patch_size`, which of Qwen-Image's says the same once more; 1 where they pack nothing.
    pipelines: the habits of pipelines of it, by class name, where they are not the usual ones.
    """

    models: tuple[str, ...]
    tokens: Tokens
    calling: Calling | None = None
    picture: Picture | None = None
    words: Words | None = None
    wordless: str = ""
    packing: int = 1
    pipelines: Mapping[str, Habits] = field(default_factory=dict)
    package: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{self.package}.{name}".lstrip(".") for name in self.models)

    def holds(self, kind: type) -> bool:
        """Whether `kind` itself, not a base of it, is one of the family's classes."""
        return kind.__name__ in self.models and self.package in ("", kind.__module__.partition(".")[0])
