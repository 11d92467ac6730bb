"""Pictures and settings at the edge of what there is, through UNet, FLUX and ViT attention."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg import DiffSeg, segment_records
from diffseg.passes.images import read_images, resized
from diffseg.passes.sizes import working_size
from diffseg.settings import make_settings
from tests import tiny_vits
from tests.diffseg.helpers import image
from tests.tiny_models import pipeline
from tokenrank_guidance import capture
from tokenrank_guidance.files import limits
from tokenrank_guidance.tiny import load_pipeline

MODELS = ("sd", "flux", pytest.param("tiny-flux", marks=pytest.mark.slow), "vit")
TRAINED = ("sd", "flux", "tiny-flux", "vit")
TOKENS = {"sd": 256, "flux": 64, "tiny-flux": 256, "vit": 36}  # of a square picture
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (20, 30, 4), dtype=np.uint8)
OVER_WHITE = COLOURS[..., :3] / 255 * (COLOURS[..., 3:] / 255) + 1 - COLOURS[..., 3:] / 255


def segmenter(model, **changes):
    """A function of one picture in any form, whichever model its attention comes from."""
    if model == "vit":
        return lambda picture: segmented_by_vit(picture, make_settings("default", changes))
    if model == "tiny-flux":
        return DiffSeg.from_pipe(load_pipeline(model), **changes)
    return DiffSeg.from_pipe(pipeline(model), resolution=32, **changes)


def segmented_by_vit(picture, settings):
    pixels = read_images(picture)[0][0]
    size = (pixels.shape[1], pixels.shape[2])
    seen = resized(pixels, working_size(size, 48, tiny_vits.PATCH, square=False))
    vit = tiny_vits.build("vit")
    with capture(vit, "all") as records, torch.no_grad():
        vit(2 * seen[None] - 1, interpolate_pos_encoding=True)
    return segment_records(list(records), size, settings)[0]


def check(found, size):
    """A whole segmentation: each label has a mask, and each mask, anchor and score is in its range."""
    assert tuple(found.labels.shape) == size
    assert found.labels.min() >= 0 and found.labels.max() < len(found)
    assert torch.isfinite(found.masks).all() and (found.masks >= 0).all()
    torch.testing.assert_close(found.masks.sum((1, 2)), torch.ones(len(found)))
    assert (found.anchors < torch.tensor(found.grid)).all() and (found.anchors >= 0).all()
    assert torch.isfinite(found.scores).all() and found.scores.mean().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (2, 3000)])
@pytest.mark.parametrize("refine", [None, "kmeans"])
def test_pictures_of_a_pixels_width(model, size, refine):
    check(segmenter(model, num_anchors=32, refine=refine)(image(*size)), size)


@pytest.mark.parametrize("model", TRAINED)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_constant_picture(model, level):
    for refine in (None, "kmeans"):
        found = segmenter(model, num_anchors=32, refine=refine)(torch.full((3, 24, 24), level))
        check(found, (24, 24))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("picture", "plain"),
    [
        (Image.fromarray(PIXELS), np.stack([PIXELS] * 3, -1)),
        (PIXELS, np.stack([PIXELS] * 3, -1)),
        (Image.fromarray(PIXELS.astype(np.uint16) * 257), PIXELS),
        (PIXELS.astype(np.uint16) * 257, PIXELS),
        (torch.from_numpy(PIXELS.astype(np.int32) * 257), PIXELS),
        (Image.fromarray(COLOURS), OVER_WHITE),
        (COLOURS, OVER_WHITE),
    ],
    ids=["grey", "grey array", "16 bit", "16 bit array", "16 bit tensor", "rgba", "rgba array"],
)
def test_every_depth_and_mode_is_the_picture_in_plain_colours(model, picture, plain):
    segment = segmenter(model, num_anchors=32)
    found, expected = segment(picture), segment(plain)
    check(found, (20, 30))
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    assert (found.labels == expected.labels).float().mean() > 0.99


@pytest.mark.parametrize("model", MODELS)
def test_sixteen_bits_are_more_than_eight(model):
    steps = np.arange(600, dtype=np.uint16).reshape(20, 30)  # all of them 0 to 2 in eight bits
    segment = segmenter(model, num_anchors=32)
    found, black = segment(Image.fromarray(steps)), segment(np.zeros((20, 30)))
    check(found, (20, 30))
    assert not torch.equal(found.scores, black.scores)


@pytest.mark.parametrize("model", MODELS)
def test_a_large_picture_has_a_label_for_every_pixel(model):
    picture = Image.effect_noise((800, 600), 50)
    found = segmenter(model, num_anchors=32)(picture)
    check(found, (600, 800))
    small = torch.nn.functional.interpolate(
        found.masks[None], (600, 800), mode="bilinear", align_corners=False
    )
    assert (small[0].argmax(0) == found.labels).float().mean() > 0.999


@pytest.mark.parametrize("model", MODELS)
def test_a_huge_picture_is_refused(model):
    side = 2**13 + 1
    with pytest.raises(ValueError, match=f"{side}×{side} pixels; the limit is {limits.PIXELS.default}"):
        segmenter(model)(Image.new("L", (side, side)))


@pytest.mark.parametrize("model", MODELS)
def test_more_anchors_than_tokens_are_all_tokens(model):
    for anchors in ("tokenrank-grid", "uniform", "tokenrank-nms"):
        found = segmenter(model, anchors=anchors, num_anchors=1000)(image(24, 24))
        check(found, (24, 24))
        height, width = found.grid
        assert height * width == TOKENS[model]
        assert len({tuple(place) for place in found.anchors.tolist()}) == TOKENS[model]


@pytest.mark.parametrize("model", TRAINED)
def test_a_threshold_that_merges_all_into_one_segment(model):
    for refine in (None, "kmeans"):
        found = segmenter(model, kl_threshold=50.0, refine=refine)(image(24, 36))
        check(found, (24, 36))
        assert len(found) == 1 and found.labels.sum() == 0
