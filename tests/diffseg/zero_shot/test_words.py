"""Words to tokens: several tokens, several places, unknown and cut off."""

import pytest
import torch

from diffseg.words import caption_of, text_readers, word_tokens
from diffseg.zero_shot import Generate, segment
from diffseg.zero_shot.options import Options, make_options
from tests.diffseg.helpers import image
from tests.tiny_models import pipeline
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.tiny import load_pipeline


def positions(pipe, caption, *concepts):
    return [own.tolist() for own in word_tokens(pipe, caption, concepts)]


def test_all_tokens_of_all_places_and_no_part_of_another_word():
    pipe = pipeline("flux")
    assert positions(pipe, "a cat, a cart, a Cat", "cat") == [[3, 4, 5, 18, 19, 20]]
    assert positions(pipe, "chain saw", "chain saw", "saw") == [[*range(1, 10)], [7, 8, 9]]
    assert positions(load_pipeline("tiny-flux"), "a photo of a chain saw", "chain saw") == [[5, 6]]


def test_sd3_has_them_in_both_encoders():
    assert positions(pipeline("sd3"), "a dog", "dog") == [[3, 4, 5, 80, 81, 82]]
    pipe = pipeline("sd3")
    pipe.text_encoder_3 = None
    assert positions(pipe, "a dog", "dog") == [[3, 4, 5]]
    late = "x" * 80 + " dog"
    assert positions(pipeline("sd3"), late, "dog") == [[77 + 82, 77 + 83, 77 + 84]]


def test_a_start_is_even_over_all_of_them():
    pipe, changes = pipeline("flux"), {"method": "row", "draws": 1, "resolution": 32, "head_weights": "mean"}
    whole = segment(pipe, image(32, 32), ["ab"], "ab", **changes).heats
    parts = segment(pipe, image(32, 32), ["ab"], "ab ab", **changes).heats
    assert whole.shape == parts.shape and not torch.equal(whole, parts)


def test_concepts_that_are_not_there():
    pipe = pipeline("flux")
    with pytest.raises(ValueError, match="'cat' does not occur in the caption 'a dog'"):
        segment(pipe, image(32, 32), ["dog", "cat"], "a dog")
    with pytest.raises(ValueError, match="does not occur in the caption ''"):
        segment(pipe, image(32, 32), ["dog"], "")
    with pytest.raises(ValueError, match="'dog' lies beyond the 77 tokens"):
        segment(pipe, image(32, 32), ["dog"], "x" * 76 + " dog")
    words = [f"word{i:02d}" for i in range(50)]
    with pytest.raises(ValueError, match="'word07' lies beyond the 77 tokens"):
        segment(pipe, image(32, 32), words)


def test_a_word_whose_last_tokens_are_cut_off_is_none():
    pipe = pipeline("flux")
    text = "x" * 72  # <s>, 72 of these, and room for three more before </s>
    assert positions(pipe, text + " at", "at") == [[74, 75]]
    with pytest.raises(ValueError, match="'ate' lies beyond the 77 tokens"):
        positions(pipe, text + " ate", "ate")
    assert positions(pipe, "ate " + text + " ate", "ate") == [[1, 2, 3]]


def test_drawing_under_a_prompt_without_the_word():
    for prompt in ("a dog", ""):
        with pytest.raises(ValueError, match=f"'cat' does not occur in the caption '{prompt}'"):
            segment(pipeline("flux"), Generate(prompt, steps=1, height=32, width=32), ["cat"])


@pytest.mark.parametrize("caption", ["", "a dog"])
def test_concept_attention_needs_no_word_in_the_caption_and_takes_fifty(caption):
    words = [chr(97 + i) + chr(97 + j) for i in range(5) for j in range(10)]
    changes = {"method": "concept-attention", "draws": 1, "resolution": 32}
    found = segment(pipeline("flux"), image(32, 32), words, caption, **changes)
    assert found.heats.shape[0] == 50 and torch.isfinite(found.heats).all()
    assert found.heats.sum(0).max() <= 1  # a share of the softmax is the background's


def test_many_concepts_in_one_pass():
    words = [chr(97 + i) + chr(97 + j) for i in range(5) for j in range(10)]
    pipe = pipeline("sd3")
    assert len(caption_of(words)) < 256 + 77
    found = segment(pipe, image(32, 32), words, " ".join(words), draws=1, resolution=32, head_weights="mean")
    assert found.heats.shape[0] == 50 and found.labels.max() < 50


def test_unknown_words_are_warned_of():
    with pytest.warns(UserWarning, match="does not know all of 'é'"):
        word_tokens(pipeline("flux"), "a é", ["é"])


def test_mistakes_are_named():
    pipe, picture = pipeline("flux"), image(32, 32)
    for concepts, error in (([], "at least one"), ("dog", "list of words"), (["a", "a"], "more than once")):
        with pytest.raises(ValueError, match=error):
            segment(pipe, picture, concepts)
    with pytest.raises(ValueError, match="unknown option nn; expected some of method, n"):
        segment(pipe, picture, ["dog"], nn=3)
    with pytest.raises(ValueError, match="n: got 0, expected a whole number ≥ 1"):
        segment(pipe, picture, ["dog"], n=0)
    with pytest.raises(ValueError, match="got 2 for 1 images"):
        segment(pipe, [picture], ["dog"], ["a dog", "a dog"])
    with pytest.raises(UnsupportedError, match="cannot be segmented by words; those can that have"):
        segment(pipeline("pixart"), picture, ["dog"])
    with pytest.raises(UnsupportedError, match="reads no text"):
        segment(pipeline("dit"), picture, ["dog"])
    assert len(text_readers(pipe)) == 1


def test_a_direction_is_that_of_bounces():
    assert make_options({}).method == "image-bounce"
    assert make_options({"direction": "incoming"}).method == "bounce"
    with pytest.raises(
        ValueError, match="direction: got 'incoming' for 'column', expected it with 'bounce' alone"
    ):
        make_options({"direction": "incoming", "method": "column"})
    with pytest.raises(
        ValueError, match="direction: got 'incoming', expected 'outgoing', as 'image-bounce' has"
    ):
        Options(direction="incoming")
