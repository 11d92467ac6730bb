"""Which tokens of the text that a denoiser attends to are which word's.

A word is found in the characters that the pipeline gives its tokenizer, as a whole: "cat" is not in
"catfish", "cats" or "cat-like", but in "Cat," and "cat's". Its tokens are those that stand for any of its
characters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenrank_guidance.families.registry import words_of
from tokenrank_guidance.families.words import MARK, TextTokens

Positions = list[Int[Tensor, " _"]]  # of different lengths
Place = tuple[int, int]  # the first character and the one after the last

LETTER = r"[\w\u0300-\u036f]"  # combining accents belong to the letter before them
BEFORE = rf"(?<!{LETTER})(?<!{LETTER}[-'’])"
AFTER = rf"(?!{LETTER}|-{LETTER}|['’](?!s\b){LETTER})"
WORD = rf"{LETTER}+(?:[-'’]{LETTER}+)*"


@dataclass(frozen=True)
class TextReader:
    """One tokenizer, and what the pipeline makes of a caption before it frames it (`given`)."""

    text: TextTokens
    given: Callable[[str], str]

    @property
    def tokenizer(self) -> Any:
        return self.text.tokenizer

    @property
    def limit(self) -> int:
        return self.text.limit

    def tokens(self, caption: str, word: str) -> list[int]:
        """Where in the text the tokens of every place of `word` are; a place that is cut off is none.

        Raises ValueError for a word that is not in the caption, and one that the tokenizer has no token for.
        """
        text, name = self.given(caption), self.given(word)
        find = _by_offsets if getattr(self.tokenizer, "is_fast", False) else _by_prefixes
        found = places(name, text)
        if not found:
            raise _not_there(name, text)
        framed, start = self._framed(text)
        order = self._order(framed)
        every = [find(self, framed, (start + first, start + last), start) for first, last in found]
        offset = self.text.offset + self.text.before(text)
        return [offset + order[i] for own in every if order.keys() >= set(own) for i in own]

    def names(self, caption: str) -> dict[int, str]:
        """Every token of the text but its padding, by its place, as the tokenizer writes it."""
        text = self.given(caption)
        framed, _ = self._framed(text)
        ids, padding = self.encoded(framed, "input_ids"), self.tokenizer.pad_token_id
        real = [i for i, one in enumerate(ids) if one != padding]
        first, last = (real[0], real[-1]) if real else (0, -1)
        names = self.tokenizer.convert_ids_to_tokens([int(one) for one in ids])
        offset = self.text.offset + self.text.before(text)
        return {offset + at: names[i] for i, at in self._order(framed).items() if first <= i <= last}

    def encoded(self, text: str, name: str, **options: Any) -> list[Any]:
        """The field `name` of the tokenised text, as the encoder gets it."""
        whole = {"truncation": True, "max_length": self.limit, **self.text.options}
        return list(self.tokenizer(text, **whole, **options)[name])

    def content(self, text: str, name: str, **options: Any) -> list[Any]:
        """The same without special tokens, and with what is cut off."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False, **options)[name])

    def _framed(self, text: str) -> tuple[str, int]:
        """What the tokenizer is given, and where the caption's first character is in it."""
        framed, said = self.text.frame(text), text.strip()
        start = framed.find(said, len(self.text.frame(MARK).partition(MARK)[0]))
        if start < 0:
            raise ValueError(f"caption: the model's template changes {text!r}, so its words are not found")
        return framed, start - text.index(said)

    def _order(self, framed: str) -> dict[int, int]:
        """Of the tokens that the encoder gets, those that come into the text, and their places there."""
        mask = self.encoded(framed, "attention_mask", return_attention_mask=True)
        return {i: at for at, i in enumerate(self.text.kept(mask))}


def text_readers(pipe: Any) -> list[TextReader]:
    """The tokenizers whose tokens share attention with the image, in order; UnsupportedError without one."""
    return [TextReader(one, partial(_given, pipe, one.tokenizer)) for one in words_of(pipe).tokenizers(pipe)]


def word_tokens(pipe: Any, caption: str, words: Sequence[str]) -> Positions:
    """The tokens of every place of each word in the caption, in all encoders that share attention.

    Raises ValueError for a word that is not in the caption, is but a part of another one, or lies beyond the
    token limit; warns of one that the tokenizer does not know.
    """
    readers = text_readers(pipe)
    return [torch.tensor(tokens_of(readers, caption, word)) for word in words]


def tokens_of(readers: Sequence[TextReader], caption: str, word: str) -> list[int]:
    """The same for one word and some of the encoders."""
    positions = sorted({i for reader in readers for i in reader.tokens(caption, word)})
    if not positions:
        limit = max(reader.limit for reader in readers)
        raise ValueError(
            f"{word!r} lies beyond the {limit} tokens that the model reads of the caption; "
            "name fewer words, or put it first"
        )
    _warn_unknown(readers[0], word)
    return positions


def check_words(name: str, words: Sequence[str]) -> tuple[str, ...]:
    """`words`, called `name` in errors; ValueError for none, a string, what is no word, and repetitions."""
    if isinstance(words, str):
        raise ValueError(f"{name}: got the string {words!r}, expected a list of words")
    chosen = tuple(words)
    if not chosen or any(not isinstance(word, str) or not word.strip() for word in chosen):
        raise ValueError(f"{name}: got {list(chosen)}, expected at least one, and words")
    twice = sorted({word for word in chosen if chosen.count(word) > 1})
    if twice:
        raise ValueError(f"{name}: {', '.join(twice)} asked for more than once")
    return chosen


def caption_of(words: Sequence[str]) -> str:
    """ "a church, a sky": ConceptAttention's "a {name}" for each."""
    return ", ".join(f"a {word}" for word in words)


def places(word: str, text: str) -> list[Place]:
    """Every place of `word` in `text`, as a whole, in any case and with any white space."""
    return [m.span() for m in re.finditer(f"(?i){BEFORE}{_pattern(word)}{AFTER}", text)]


def _pattern(word: str) -> str:
    return r"\s+".join(map(re.escape, word.split()))


def _not_there(word: str, caption: str) -> ValueError:
    inside = re.search(rf"(?i)[\w'’-]*{_pattern(word)}[\w'’-]*", caption)
    how = f"occurs only as a part of {inside.group()!r}" if inside else "does not occur"
    return ValueError(f"{word!r} {how} in the caption {caption!r}")


def _by_offsets(reader: TextReader, text: str, place: Place, start: int) -> list[int]:
    """Tokens of one place by the characters that they stand for, which fast tokenizers tell."""
    name, asked = "offset_mapping", {"return_offsets_mapping": True}
    read = _overlapping(reader.encoded(text, name, **asked), place)
    whole = _overlapping(reader.content(text, name, **asked), place)
    if not whole:
        raise _no_token(reader, text, place)
    return read if len(read) == len(whole) else []


def _overlapping(spans: Sequence[Place], place: Place) -> list[int]:
    return [i for i, (first, last) in enumerate(spans) if max(first, place[0]) < min(last, place[1])]


def _by_prefixes(reader: TextReader, text: str, place: Place, start: int) -> list[int]:
    """The same for a tokenizer that does not tell: the tokens that the text up to the word's end has more.

    That the tokens of both beginnings begin those of the whole text is checked; ValueError where they do not.
    White space before the caption, which is at `start`, is the frame's.
    """
    before = text[:start] + text[start : place[0]].rstrip()
    whole, *parts = (reader.content(part, "input_ids") for part in (text, before, text[: place[1]]))
    first, last = map(len, parts)
    if any(whole[: len(part)] != part for part in parts):
        name = type(reader.tokenizer).__name__
        raise ValueError(f"{name} does not tell which tokens of {text!r} are {text[slice(*place)]!r}")
    if first == last:
        raise _no_token(reader, text, place)
    read = reader.encoded(text, "input_ids")
    skipped = max(range(len(read)), key=lambda i: _alike(read[i:], whole))  # special tokens may come first
    kept = last <= _alike(read[skipped:], whole)
    return list(range(skipped + first, skipped + last)) if kept else []


def _alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _no_token(reader: TextReader, text: str, place: Place) -> ValueError:
    return ValueError(f"{type(reader.tokenizer).__name__} has no token for {text[slice(*place)]!r}")


def _warn_unknown(reader: TextReader, word: str) -> None:
    unknown = reader.tokenizer.unk_token_id
    if unknown is not None and unknown in reader.content(reader.given(word), "input_ids"):
        warnings.warn(f"the model does not know all of {word!r}: its map means little", stacklevel=5)


def _given(pipe: Any, tokenizer: Any, text: str) -> str:
    """PixArt's in small letters; several words for a textual inversion of several vectors."""
    if hasattr(pipe, "_text_preprocessing"):
        return pipe._text_preprocessing(text)[0]
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return text if convert is None else convert(text, tokenizer)
