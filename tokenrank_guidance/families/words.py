"""How a family reads text, so that its tokens can be told word by word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.families.picture import longest_text


@dataclass(frozen=True)
class TextTokens:
    """One tokenizer: its tokens come at `offset` in the text, `limit` of them with the special ones."""

    tokenizer: Any
    limit: int
    offset: int = 0


@dataclass(frozen=True)
class Concepts:
    """What ConceptAttention needs: `encode` gives (the text's tokens, the pooled text) of (pipe, text).

    The denoiser multiplies the times that it is given by `time_scale` before it embeds them.
    """

    encode: Callable[[Any, str], tuple[Float[Tensor, "1 n dim"], Float[Tensor, "1 pooled"]]]
    time_scale: float = 1.0


@dataclass(frozen=True)
class Words:
    """How a family reads a caption.

    `tokenizers`: those whose tokens the image attends to, in order. `longest`: how many tokens of a caption
    are encoded, None for a tokenizer's own limit. `joint`: text and image share one map, else images attend
    to text apart. `walks`: zero-shot segmentation knows how a chain starts at its words. `concepts`: what
    ConceptAttention needs, None where it is not defined.
    """

    tokenizers: Callable[[Any], list[TextTokens]]
    longest: Callable[[Any], int | None] = longest_text
    joint: bool = False
    walks: bool = True
    concepts: Concepts | None = None


def one_or_two(pipe: Any) -> list[TextTokens]:
    """One encoder's, or of SDXL's two, which share their positions; its refiner has the second alone."""
    both = (pipe.tokenizer, getattr(pipe, "tokenizer_2", None))
    return [text_tokens(one, longest_text(pipe)) for one in both if one is not None]


def own_limit(pipe: Any) -> int:
    """The tokenizer's own limit may be below the pipeline's."""
    return min(longest_text(pipe) or pipe.tokenizer.model_max_length, pipe.tokenizer.model_max_length)


def t5_alone(pipe: Any) -> list[TextTokens]:
    """The only encoder's, whose tokens come first in the text."""
    return [text_tokens(pipe.tokenizer, own_limit(pipe))]


def text_tokens(tokenizer: Any, limit: int | None, offset: int = 0) -> TextTokens:
    """With the tokenizer's own limit where there is no other."""
    return TextTokens(tokenizer, limit or tokenizer.model_max_length, offset)
