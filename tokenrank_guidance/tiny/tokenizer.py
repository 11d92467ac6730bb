"""A word-level tokenizer for the captions that the embedded models were trained on."""

from __future__ import annotations

import re
import warnings

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

LABELS = (
    "airplane", "bicycle", "boat", "car", "cassette player", "chain saw", "church", "English springer",
    "flower", "French horn", "garbage truck", "gas pump", "golf ball", "motorbike", "parachute", "tench",
)  # fmt: skip
TEMPLATES = ("a photo of a {label}", "a {label}", "{label}")
MAX_TOKENS = 12
SPECIAL = ("<pad>", "<bos>", "<unk>", "<eos>")
_WORD = re.compile(r"[a-z]+")
_WARNED: set[str] = set()  # a pipeline tokenises each prompt several times: warn of a word once


def vocabulary() -> list[str]:
    """Every token in the order of its id: the special ones, then the captions' words, sorted."""
    captions = " ".join([*LABELS, *TEMPLATES]).replace("{label}", "").lower()
    return [*SPECIAL, *sorted(set(_WORD.findall(captions)))]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Tokenizer `<bos> word … word <eos> <pad> …` over the captions' words, lower-cased."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    backend = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("[a-z]+"), behavior="removed", invert=True)
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", ids["<bos>"]), ("<eos>", ids["<eos>"])]
    )
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "unk_token": "<unk>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=MAX_TOKENS, **names)


class CaptionTokenizer(PreTrainedTokenizerFast):
    """The same tokenizer, which warns of words the model never saw and pads to no more than its own length.

    `FluxPipeline` asks for 512 tokens unless told otherwise; the embedded models were trained on 12, and
    padding would drown the words.
    """

    def __call__(self, text: str | list[str] = "", *args, max_length: int | None = None, **options):
        known = self.get_vocab()
        words = _WORD.findall(" ".join([text] if isinstance(text, str) else text).lower())
        unknown = sorted({word for word in words if word not in known} - _WARNED)
        if unknown:
            _WARNED.update(unknown)
            warnings.warn(
                f"unknown to this model: {', '.join(unknown)}; it was trained on captions "
                f"'{TEMPLATES[0]}' with the labels {', '.join(LABELS)}",
                stacklevel=2,
            )
        limit = min(max_length or self.model_max_length, self.model_max_length)
        return super().__call__(text, *args, max_length=limit, **options)
