"""How a family reads text, so that its tokens can be told word by word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.families.picture import longest_text

MARK = "CAPTION"
STACKS = ("transformer_blocks", "single_transformer_blocks")


KEYS_ALONE = "its prompt has keys beside the image's and no row in their map, where a walk could start"
APART = "it attends to text apart: walks start at words in one map of text and image, and in UNets"


def everything(mask: Sequence[int]) -> Sequence[int]:
    """Padding comes into the text too."""
    return range(len(mask))


def without_padding(mask: Sequence[int]) -> Sequence[int]:
    """What is not padding."""
    return [i for i, real in enumerate(mask) if real]


def alone(caption: str) -> str:
    """Nothing is put before or after it."""
    return caption


def at_the_start(caption: str) -> int:
    """No token comes before them."""
    return 0


@dataclass(frozen=True)
class TextTokens:
    """One tokenizer: its tokens come at `offset` in the text, `limit` of them with the special ones.

    `frame` makes of a caption what the tokenizer is given, such as a chat template; `options` are what it is
    called with beside its limit. `kept` tells, of the mask of all its tokens (1, or 0 for padding), which of
    them come into the text, in order. `before`: how many more tokens a caption has before them.
    """

    tokenizer: Any
    limit: int
    offset: int = 0
    frame: Callable[[str], str] = alone
    kept: Callable[[Sequence[int]], Sequence[int]] = everything
    options: Mapping[str, Any] = field(default_factory=lambda: {"padding": "max_length"})
    before: Callable[[str], int] = at_the_start


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
    to text apart. `stacks`: the layers in which they do, by the prefixes of their names in running order.
    `sees_image`: the text's tokens attend to the image's too, so that walks along attention lead there.
    `walks`: zero-shot segmentation knows how a chain starts at its words. `concepts`: what ConceptAttention
    needs, None where it is not defined.
    """

    tokenizers: Callable[[Any], list[TextTokens]]
    longest: Callable[[Any], int | None] = longest_text
    joint: bool = False
    stacks: tuple[str, ...] = STACKS
    sees_image: bool = True
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


def text_tokens(tokenizer: Any, limit: int | None, offset: int = 0, **how: Any) -> TextTokens:
    """With the tokenizer's own limit where there is no other."""
    return TextTokens(tokenizer, limit or tokenizer.model_max_length, offset, **how)


def chat(tokenizer: Any, **options: Any) -> Callable[[str], str]:
    """A caption as what the user says, in the tokenizer's chat template."""

    def frame(caption: str) -> str:
        turn = {"role": "user", "content": caption}
        return tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True, **options)

    return frame
