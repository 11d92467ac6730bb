"""Names for segments from a caption."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseg import DiffSeg, Segmentation
from diffseg.cross import TextAttention
from diffseg.naming import Naming, word_maps
from diffseg.passes.denoise import denoiser_pass
from diffseg.settings import Settings
from diffseg.vote import name_segments, pixel_counts
from tests.capture.helpers import hook_counts
from tests.diffseg.helpers import image
from tests.tiny_models import denoiser, pipeline
from tokenrank_guidance import CaptureError, UnsupportedError, capture

TEXTUAL = ["sd", "sdxl", "sd3", "flux", "pixart"]


def segmentation(labels, grid):
    count = int(labels.max()) + 1
    return Segmentation(labels, torch.ones(count, *grid), torch.zeros(1, 2).long(), torch.ones(grid))


def test_majority_and_mean_differ_and_neither_is_the_median_index():
    # Five pixels vote cat, cat, cat, sky, sky, the latter two strongly.
    words = torch.tensor([[0.5, 0, 0.4], [0.5, 0, 0.4], [0.5, 0, 0.4], [0, 0, 3.0], [0, 0, 3.0]])
    words = torch.cat([words, torch.tensor([[3.0, 1, 0]])])
    found = segmentation(torch.tensor([[0, 0, 0, 0, 0, 1]]), (1, 6))
    nouns = ("cat", "dog", "sky")
    assert name_segments(found, words, nouns, "mean") == ("sky", "dog")
    assert name_segments(found, words, nouns, "majority") == ("cat", "dog")
    # Nobody votes for dog, whose index is the median of cat, cat, sky, sky.
    even = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    assert name_segments(segmentation(torch.zeros(1, 4).long(), (1, 4)), even, nouns, "majority") == ("cat",)


def test_a_vote_more_counts_under_autocast_too():
    """256 against 257, of which bfloat16 would make a draw."""
    words = torch.eye(2)[torch.arange(513) % 2 ^ 1]
    found = segmentation(torch.zeros(1, 513).long(), (1, 513))
    with torch.autocast("cpu", torch.bfloat16):
        assert name_segments(found, words, ("a", "b"), "majority") == ("b",)


def test_a_segment_without_pixels_has_no_name():
    found = segmentation(torch.tensor([[0, 2]]), (1, 2))
    assert name_segments(found, torch.eye(2), ("a", "b"), "majority") == ("a", None, "b")


def test_unknown_vote():
    with pytest.raises(ValueError, match="vote: got 'median'"):
        name_segments(segmentation(torch.zeros(1, 1).long(), (1, 1)), torch.ones(1, 1), ("a",), "median")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
def test_every_pixel_is_counted_once_in_its_token(height, width, rows, columns):
    labels = torch.randint(0, 3, (height, width), generator=torch.Generator().manual_seed(0))
    counts = pixel_counts(labels, 3, (rows, columns))
    assert torch.equal(counts.sum(1), labels.flatten().bincount(minlength=3))
    token = (height // 2 * 2 + 1) * rows // (2 * height) * columns + columns // (2 * width)
    assert counts[:, token].sum() > 0


def test_nouns_are_words_of_the_caption():
    pipe = pipeline("sd")
    found = Naming.of(pipe, "A photo of a dog on the Grass", None, "mean")
    assert found.nouns == ("dog", "grass")
    one = Naming.of(pipe, "a red box", ["box"], "mean")
    assert (one.nouns, one.tokens[0].tolist()) == (("box",), [7, 8, 9])  # a token per character after <s>
    with pytest.raises(ValueError, match="'do' occurs only as a part of 'dog' in the caption 'a dog'"):
        Naming.of(pipe, "a dog", ["do"], "mean")
    with pytest.raises(ValueError, match="has no word to name a segment by"):
        Naming.of(pipe, "a photo of the", None, "mean")
    with pytest.raises(ValueError, match="nouns: got the string 'dog', expected a list of words"):
        Naming.of(pipe, "a dog", "dog", "mean")


@pytest.mark.parametrize("name", TEXTUAL)
def test_word_maps_are_the_text_columns_of_attention(name):
    pipe = pipeline(name)
    before = hook_counts(denoiser(pipe))
    naming = Naming.of(pipe, "a red box", None, "majority")
    maps = word_maps(pipe, image(32, 48), Settings(resolution=32), naming)
    assert maps.shape == (14 * 20 if name == "sd" else 7 * 10, 2)
    assert (maps >= 0).all() and maps.std(0).min() > 0
    assert hook_counts(denoiser(pipe)) == before


def test_joint_attention_gives_the_softmax_over_all_tokens():
    pipe = pipeline("flux")
    naming = Naming.of(pipe, "a red box", ("box",), "mean")
    quick = Settings(resolution=32)
    with capture(pipe.transformer, "all") as records:
        denoiser_pass(pipe, image(32, 32), quick, naming.caption)
    place = torch.tensor([7, 8, 9])  # after <s>, one for each character
    mean = torch.stack([r.maps()[0].mean(0)[r.image][:, place].sum(-1) for r in records]).mean(0)
    found = word_maps(pipe, image(32, 32), quick, naming)[:, 0]
    torch.testing.assert_close(found / found.sum(), mean / mean.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TEXTUAL)
def test_pipelines_name_their_segments(name):
    segmenter = DiffSeg.from_pipe(pipeline(name), resolution=32, num_anchors=32)
    found = segmenter([image(32, 32), image(20, 40)], caption=["a red box", "a cat"], vote="mean")
    assert {*found[0].names} <= {"red", "box", None} and {*found[1].names} <= {"cat", None}
    assert len(found[0].names) == len(found[0])


def test_captions_that_cannot_be_used():
    segmenter = DiffSeg.from_pipe(pipeline("sd"), resolution=32)
    with pytest.raises(ValueError, match="caption: got 2 for 1 images"):
        segmenter(image(32, 32), caption=["a", "b"])
    with pytest.raises(ValueError, match="pass caption too"):
        segmenter(image(32, 32), nouns=["box"])
    for name in ("dit", "ddpm"):
        with pytest.raises(UnsupportedError, match="reads no text"):
            DiffSeg.from_pipe(pipeline(name))(image(32, 32), caption="a box")
    with pytest.raises(CaptureError, match="no attention to text"):
        TextAttention().maps({})
