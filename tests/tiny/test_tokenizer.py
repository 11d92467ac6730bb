import warnings

import pytest

from tokenrank_guidance.tiny import tokenizer as captions
from tokenrank_guidance.tiny.tokenizer import LABELS, MAX_TOKENS, CaptionTokenizer, build_tokenizer


@pytest.fixture
def caption_tokenizer(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "_WARNED", set())
    build_tokenizer().save_pretrained(tmp_path)
    return CaptionTokenizer.from_pretrained(tmp_path)


def test_every_caption_is_known_and_fits(caption_tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = caption_tokenizer([f"a photo of a {label}" for label in LABELS], padding="max_length").input_ids
    unknown, eos = caption_tokenizer.unk_token_id, caption_tokenizer.eos_token_id
    assert all(len(row) == MAX_TOKENS and unknown not in row and row.count(eos) == 1 for row in ids)
    assert len({tuple(row) for row in ids}) == len(LABELS)


def test_case_and_punctuation_do_not_matter(caption_tokenizer):
    assert (
        caption_tokenizer("A photo of a CHURCH!").input_ids
        == caption_tokenizer("a photo of a church").input_ids
    )


def test_unknown_words_warn_once_and_list_the_known_labels(caption_tokenizer):
    with pytest.warns(UserWarning, match=r"unknown to this model: zebra;.*airplane.*tench"):
        caption_tokenizer("a photo of a zebra")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caption_tokenizer("a photo of a zebra")


def test_a_longer_maximum_is_cut_to_what_was_trained(caption_tokenizer):
    ids = caption_tokenizer("a church", padding="max_length", max_length=512, truncation=True).input_ids
    assert len(ids) == MAX_TOKENS
