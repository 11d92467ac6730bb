"""The one finder of a word's tokens: whole words, in real kinds of tokenizers, in every encoder."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from diffseg import DiffSeg, Settings
from diffseg.naming import Naming
from diffseg.passes.denoise import denoiser_pass
from diffseg.words import WORD, TextReader, caption_of, check_words, places, text_readers, word_tokens
from tests.diffseg.helpers import image
from tests.diffseg.tiny_tokenizers import MARK, PIECES, Joining, Slow, clip_like, t5_like
from tests.tiny_models import denoiser, pipeline
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.families.registry import FAMILIES, reads_text
from tokenrank_guidance.families.words import TextTokens

KINDS = {"clip": clip_like, "t5": t5_like, "slow": Slow}
TOKENIZERS = {kind: build() for kind, build in KINDS.items()}
LONG = "a red box " * 9 + "a dog"  # 97 characters
COLUMNS = {"sd": 77, "sdxl": 77, "sd3": 77 + 256, "flux": 77, "pixart": 300}  # of text, for the denoiser


def reader_of(tokenizer):
    return TextReader(TextTokens(tokenizer, tokenizer.model_max_length), str)


def spelled(tokenizer, caption, own):
    """The characters of the tokens at `own`, by the tokenizer's own table of what the encoder gets."""
    read = tokenizer(caption, padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
    tokens = tokenizer.convert_ids_to_tokens(read.input_ids)
    return "".join(tokens[i] for i in own).replace(MARK, "").replace("</w>", "")


def found(kind, caption, word):
    tokenizer = KINDS[kind]()
    own = reader_of(tokenizer).tokens(caption, word)
    return own, spelled(tokenizer, caption, own)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("caption", "word", "expected"),
    [
        ("a catfish and a cat", "cat", "cat"),
        ("a grasshopper on the grass", "grass", "grass"),
        ("a catfish and a cat", "catfish", "catfish"),
        ("the traffic light, a light", "traffic light", "trafficlight"),
        ("the  traffic   light", "traffic light", "trafficlight"),
        ("a cat, a cat-fish and cats. Cat!", "cat", "catcat"),
        ("the cat's grass", "cat", "cat"),
        ("a cat-fish", "cat-fish", "cat-fish"),
        ("a zebra", "zebra", "zebra"),
        ("(cat) 'grass'", "grass", "grass"),
    ],
)
def test_the_tokens_found_spell_the_word(kind, caption, word, expected):
    assert found(kind, caption, word)[1].lower() == expected


def test_tokens_of_a_word_are_contiguous_and_of_one_place_each():
    assert found("t5", "a catfish and a cat", "cat")[0] == [7]
    assert found("clip", "a catfish and a cat", "cat")[0] == [8]
    assert found("slow", "a catfish and a cat", "cat")[0] == [64 - 2]  # padded at the left


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    words=st.lists(
        st.one_of(st.sampled_from(PIECES), st.text("abcxyz", min_size=1, max_size=4)), min_size=1, max_size=8
    ),
    data=st.data(),
)
def test_positions_are_where_a_plain_loop_over_the_words_puts_them(kind, words, data):
    tokenizer = TOKENIZERS[kind]
    word = data.draw(st.sampled_from(words))
    counts = [len(tokenizer(one, add_special_tokens=False).input_ids) for one in words]
    whole = tokenizer(" ".join(words), add_special_tokens=False).input_ids
    assert sum(counts) == len(whole)  # words do not meet in these tokenizers
    read = tokenizer(" ".join(words), padding="max_length", max_length=64, truncation=True).input_ids
    start = next(i for i in range(len(read)) if read[i : i + len(whole)] == whole)
    expected = [
        start + sum(counts[:i]) + k for i, one in enumerate(words) if one == word for k in range(counts[i])
    ]
    if (
        kind == "t5"
    ):  # its mark of white space stands for no character of the word, but where it is put in first
        alone = tokenizer.convert_tokens_to_ids(MARK)
        expected = [i for i in expected if read[i] != alone or i == 0]
    assert TextReader(TextTokens(tokenizer, 64), str).tokens(" ".join(words), word) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_that_is_but_a_part_of_another_is_told_of(kind):
    reader = reader_of(KINDS[kind]())
    for caption, part in (
        ("a catfish", "catfish"),
        ("two cats", "cats"),
        ("a cat-like fish", "cat-like"),
        ("a big-cat", "big-cat"),
        ("a cat_1", "cat_1"),
        ("a can't", None),
    ):
        how = f"only as a part of '{part}'" if part else "'cat' does not occur in the caption"
        with pytest.raises(ValueError, match=how):
            reader.tokens(caption, "cat")


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_is_cut_off_is_none(kind):
    tokenizer = KINDS[kind]()
    reader, room = reader_of(tokenizer), tokenizer.model_max_length
    frame = len(tokenizer("a").input_ids) - len(tokenizer("a", add_special_tokens=False).input_ids)
    for fill in (room - frame - 2, room - frame - 1, room - frame):
        caption = "a " * fill + "catfish"  # catfish has two tokens
        own = reader.tokens(caption, "catfish")
        assert spelled(tokenizer, caption, own) == ("catfish" if fill == room - frame - 2 else "")
        first = reader.tokens("catfish " + caption, "catfish")  # without its place at the end
        assert spelled(tokenizer, "catfish " + caption, first) == "catfish"


def test_a_slow_tokenizer_whose_words_meet_is_refused():
    with pytest.raises(ValueError, match="Joining does not tell which tokens of 'a cat' are 'cat'"):
        reader_of(Joining()).tokens("a cat", "cat")


def test_a_word_without_tokens():
    tokenizer = t5_like()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    with pytest.raises(ValueError, match="has no token for '~'"):
        reader_of(tokenizer).tokens("a ~ cat", "~")


@settings(max_examples=100, deadline=None)
@given(st.text("ab-'’ _é.,\u0301", max_size=30))
def test_every_word_of_a_caption_is_found_at_its_place(caption):
    for one in re.finditer(WORD, caption):
        assert one.span() in places(one.group(), caption)
        for place in places(one.group(), caption):
            assert caption[slice(*place)].lower() == one.group().lower()


def test_words_are_matched_in_any_case_and_accent():
    assert places("CAT", "a Cat") == [(2, 5)]
    assert places("caf", "a cafe\u0301") == places("cafe", "a cafe\u0301") == []
    assert places("café", "a Café, a café's") == [(2, 6), (10, 14)]
    assert places("a.b", "axb a.b") == [(4, 7)]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("caption", ["A Dog, a hotdog and a dog.", LONG, "a red dog " * 40])
def test_the_columns_found_are_the_word_in_what_the_encoders_were_given(name, caption):
    """The tiny tokenizers have one token for each character, so that columns can be read."""
    pipe = pipeline(name)
    text = seen_by_encoders(pipe, caption)
    assert len(text) == COLUMNS[name]
    expected = [k for m in re.finditer(r"(?i)(?<=[\x00 ])dog(?=[ ,.\x00])", text) for k in range(*m.span())]
    if expected:
        assert word_tokens(pipe, caption, ["dog"])[0].tolist() == expected
    else:
        with pytest.raises(ValueError, match="'dog' lies beyond the 77 tokens that the model reads"):
            word_tokens(pipe, caption, ["dog"])
    assert bool(expected) == (caption != LONG or name in ("sd3", "pixart"))


def seen_by_encoders(pipe, caption):
    """One character for each column of text that the denoiser sees, \\0 for special tokens."""
    seen = {}

    def see(module, args):
        seen.setdefault(module, args[0][0])

    shared = ("text_encoder_2",) if "Flux" in type(pipe).__name__ else ("text_encoder", "text_encoder_3")
    for name in shared:
        encoder = getattr(pipe, name, None)
        if encoder is not None:
            encoder.register_forward_pre_hook(see)
    denoiser_pass(pipe, image(32, 32), Settings(resolution=32), caption)
    names = pipe.tokenizer.convert_ids_to_tokens([int(i) for ids in seen.values() for i in ids])
    return "".join(name if len(name) == 1 else "\0" for name in names)


@pytest.mark.parametrize("name", COLUMNS)
def test_pipelines_refuse_a_word_before_they_run(name):
    pipe = pipeline(name)
    segmenter = DiffSeg.from_pipe(pipe, resolution=32, num_anchors=4)
    denoiser(pipe).forward = None  # calling it would be a TypeError
    for caption, nouns, error in (
        ("a hotdog", ["dog"], "'dog' occurs only as a part of 'hotdog'"),
        ("a cat", ["dog"], "'dog' does not occur in the caption 'a cat'"),
        ("a red box " * 40 + "a dog", ["box", "dog"], "'dog' lies beyond the (77|256|300) tokens"),
        ("a red box " * 40 + "a dog", None, "'dog' lies beyond the (77|256|300) tokens"),
    ):
        with pytest.raises(ValueError, match=error):
            segmenter(image(32, 32), caption=caption, nouns=nouns)


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux"])
def test_a_textual_inversion_of_several_vectors_is_one_word_and_moves_the_others(name):
    pipe = pipeline(name)
    for part in ("", "_2") if name != "flux" else ("_2",):
        encoder, tokenizer = (getattr(pipe, f"{what}{part}", None) for what in ("text_encoder", "tokenizer"))
        if encoder is not None:
            vectors = torch.randn(3, encoder.config.hidden_size)
            pipe.load_textual_inversion(vectors, token="<toy>", text_encoder=encoder, tokenizer=tokenizer)
    tokenizer = pipe.tokenizer_2 if name == "flux" else pipe.tokenizer
    read = tokenizer.convert_ids_to_tokens(tokenizer("a <toy> <toy>_1 <toy>_2 on grass").input_ids)
    toy, grass = word_tokens(pipe, "a <toy> on grass", ["<toy>", "grass"])
    assert [read[i] for i in toy] == ["<toy>", " ", "<toy>_1", " ", "<toy>_2"]
    assert [read[i] for i in grass] == [*"grass"]
    named = Naming.of(pipe, "a <toy> on grass", None, "mean")
    assert named.nouns == ("toy", "grass")
    assert [read[i] for i in named.tokens[0]] == ["<toy>", "<toy>_1", "<toy>_2"]


def test_two_tokenizers_of_one_place_are_both_asked():
    """A concept that but one of SDXL's encoders has learned stands elsewhere for the other."""
    pipe = pipeline("sdxl")
    vectors = torch.randn(2, pipe.text_encoder.config.hidden_size)
    pipe.load_textual_inversion(
        vectors, token="<toy>", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
    )
    first, second = (reader.tokens("<toy> on", "on") for reader in text_readers(pipe))
    assert (first, second) == ([5, 6], [7, 8])
    assert word_tokens(pipe, "<toy> on", ["on"])[0].tolist() == [5, 6, 7, 8]


def test_pixart_reads_small_letters():
    pipe = pipeline("pixart")
    pipe.tokenizer = t5_like()
    own = word_tokens(pipe, "  a CAT on grass", ["grass", "CAT"])
    assert [spelled(pipe.tokenizer, "a cat on grass", one) for one in own] == ["grass", "cat"]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_family_that_reads_text_has_readers(name):
    assert reads_text(pipeline(name))
    assert {str(one) for one in FAMILIES if one.picture and not one.words and not one.wordless} == {
        "UNet2DModel",
        "DiTTransformer2DModel",
    }


def test_pipelines_without_text_have_no_readers():
    with pytest.raises(UnsupportedError, match="DiTPipeline reads no text"):
        text_readers(pipeline("dit"))


def test_lists_of_words():
    assert check_words("nouns", ["a", "b c"]) == ("a", "b c")
    for words, error in (("dog", "the string 'dog'"), ([], "at least one"), (["a", " "], "and words")):
        with pytest.raises(ValueError, match=f"nouns: got .*{error}"):
            check_words("nouns", words)
    with pytest.raises(ValueError, match="nouns: a asked for more than once"):
        check_words("nouns", ["a", "b", "a"])
    assert caption_of(["church", "sky"]) == "a church, a sky"
