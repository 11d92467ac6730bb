"""Which tokens of the text that a denoiser attends to are which word's."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diffseg.conditions import supported
from tokenrank_guidance.errors import UnsupportedError

T5_TOKENS = {"FluxTransformer2DModel": 512, "SD3Transformer2DModel": 256}
Positions = list[Int[Tensor, " _"]]  # of different lengths


@dataclass(frozen=True)
class Reader:
    """One text encoder: its tokens come at `offset` in the text, `limit` of them with the final one."""

    tokenizer: Any
    offset: int
    limit: int


def text_readers(pipe: Any) -> list[Reader]:
    """The encoders whose tokens share attention, in order: FLUX's T5, SD3's CLIP and T5, a UNet's CLIP.

    FLUX's CLIP gives one pooled vector and no tokens; SD3's two CLIPs and SDXL's share their positions.
    Raises UnsupportedError for a pipeline without tokens of text.
    """
    family = supported(pipe)
    if family == "FluxTransformer2DModel":
        return [Reader(pipe.tokenizer_2, 0, longest_text(pipe) or 0)]
    if family == "SD3Transformer2DModel":
        clip = pipe.tokenizer_max_length
        second = [Reader(pipe.tokenizer_3, clip, T5_TOKENS[family])] if pipe.text_encoder_3 else []
        return [Reader(pipe.tokenizer, 0, clip), *second]
    if family == "UNet2DConditionModel":
        return [Reader(pipe.tokenizer, 0, pipe.tokenizer.model_max_length)]
    raise UnsupportedError(f"{type(pipe).__name__} cannot be segmented by words; FLUX, SD3 and UNets can")


def longest_text(pipe: Any) -> int | None:
    """The `max_sequence_length` to call the pipeline with, None where it has none."""
    tokens = T5_TOKENS.get(supported(pipe))
    if supported(pipe) == "FluxTransformer2DModel":
        return min(T5_TOKENS["FluxTransformer2DModel"], pipe.tokenizer_2.model_max_length)
    return tokens


def caption_of(concepts: Sequence[str]) -> str:
    """ "a church, a sky": ConceptAttention's "a {name}" for each."""
    return ", ".join(f"a {concept}" for concept in concepts)


def concept_tokens(pipe: Any, caption: str, concepts: Sequence[str]) -> Positions:
    """The tokens of every place of each concept in the caption, in all encoders that share attention.

    Raises ValueError for a concept that is not in the caption, and for one beyond the token limit; warns of
    one that the tokenizer does not know.
    """
    readers = text_readers(pipe)
    return [_of_readers(readers, caption, concept) for concept in concepts]


def _of_readers(readers: Sequence[Reader], caption: str, concept: str) -> Int[Tensor, " k"]:
    places = [m.span() for m in re.finditer(rf"(?i)(?<!\w){re.escape(concept)}(?!\w)", caption)]
    if not places:
        raise ValueError(f"concept {concept!r} does not occur in the caption {caption!r}")
    found = [reader.offset + i for reader in readers for i in _within(reader, caption, places)]
    if not found:
        limit = max(reader.limit for reader in readers)
        raise ValueError(
            f"concept {concept!r} lies beyond the {limit} tokens that the model reads of the caption; "
            "name fewer concepts, or put it first"
        )
    _warn_unknown(readers[0], concept)
    return torch.tensor(found)


def _within(reader: Reader, caption: str, places: Sequence[tuple[int, int]]) -> list[int]:
    """Tokens whose characters overlap the places; a place that is cut off is none.

    The last token that is read ends the text.
    """
    spans = character_spans(reader.tokenizer, caption)
    found: list[int] = []
    for first, last in places:
        own = [i for i, (start, end) in enumerate(spans) if max(start, first) < min(end, last)]
        found += own if max(own, default=reader.limit) < reader.limit - 1 else []
    return found


def character_spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """The characters of each token, (0, 0) for the special ones; ValueError for a tokenizer without them."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} does not tell which characters a token stands for")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about long texts; what is cut off is told of here
        return [tuple(span) for span in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]


def _warn_unknown(reader: Reader, concept: str) -> None:
    tokenizer = reader.tokenizer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = tokenizer(concept, add_special_tokens=False)["input_ids"]
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        warnings.warn(f"the model does not know all of {concept!r}: its map means little", stacklevel=5)
