"""Whole pipelines on a device without float64: the pictures, segments and words that the CPU gives."""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from diffseg import DiffSeg
from diffseg.maps.labels import label_map
from diffseg.zero_shot import segment
from eval.zero_shot.protocol import resized
from sag import SelfAttentionGuidance
from tests.matrix.rows import ROWS, run
from tests.tiny_models import Call
from tokenrank_guidance.capture import capture
from tokenrank_guidance.cli.overlap import intersection_over_union
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.plots import bounce_figure, lambda2_figure, tokenrank_figure
from tokenrank_guidance.tiny import load_pipeline

pytestmark = pytest.mark.apple
IMAGE = (255 * np.random.default_rng(0).random((64, 64, 3))).astype(np.uint8)


@pytest.fixture(params=["tiny-sd", "tiny-flux"])
def both(request, there):
    """One model on the device and on the CPU."""
    return load_pipeline(request.param).to(there), load_pipeline(request.param)


def drawn(pipe, steps=2):
    g = torch.Generator().manual_seed(0)
    return pipe("a photo of a church", num_inference_steps=steps, output_type="np", generator=g).images


@pytest.mark.parametrize(
    "options", [{}, {"head_weights": "lambda2", "reuse": 2}, {"scorer": "gradient-chain"}]
)
def test_guided_pictures(both, options):
    guided = []
    for pipe in both:
        with SelfAttentionGuidance(**options)(pipe):
            guided.append(drawn(pipe))
    np.testing.assert_allclose(guided[0], guided[1], atol=1e-4)
    assert abs(guided[1] - drawn(both[1])).max() > 0.01


@pytest.mark.parametrize("preset", ["default", "reference"])
def test_segments(both, preset):
    changes = {"num_anchors": 16} if preset == "reference" else {}
    there, here = (DiffSeg.from_pipe(pipe, preset, **changes)(IMAGE).labels.cpu() for pipe in both)
    assert (there == here).float().mean() > 0.99


def test_words(both):
    there, here = (segment(pipe, IMAGE, ["church"], caption="a photo of a church").labels for pipe in both)
    assert (torch.as_tensor(there).cpu() == torch.as_tensor(here)).float().mean() > 0.99


def test_figures(both):
    with capture(denoiser_of(both[0]), layers="all") as maps:
        drawn(both[0], 1)
    tokenrank_figure(maps[-1])
    bounce_figure(maps[-1], (1, 1))
    lambda2_figure(maps)


ROWS_TRIED = [
    "StableDiffusion3Img2Img",
    "Sana",
    "WanImageToVideo",
    "LTXCondition, first frame",
    "Kandinsky6TI2VA, first frame",
]


@pytest.mark.parametrize("name", ROWS_TRIED)
def test_guided_pipelines(there, name):
    """Of random weights: the same pipeline before and after it goes to the device, and what it is given."""
    pipe, given = ROWS[name].build(), ROWS[name].arguments(Call(steps=2))
    with SelfAttentionGuidance()(pipe):
        here = run(pipe, given)
    pipe.to(there)
    given = tree_map(lambda leaf: leaf.to(there) if isinstance(leaf, torch.Tensor) else leaf, given)
    unguided = run(pipe, given).cpu()
    with SelfAttentionGuidance()(pipe):
        found = run(pipe, given).cpu()
    torch.testing.assert_close(found, here, rtol=1e-3, atol=1e-3)
    assert (found - unguided).abs().max() > 4e-3


def test_what_reports_say_of_masks_and_maps(there):
    g = torch.Generator().manual_seed(0)
    first, second = (torch.rand(2, 4, 6, generator=g) > 0.5 for _ in range(2))
    found = intersection_over_union(first.to(there), second.to(there))
    torch.testing.assert_close(found, intersection_over_union(first, second))
    np.testing.assert_array_equal(resized(first[0].to(there), (8, 12)), resized(first[0], (8, 12)))
    heats = torch.rand(3, 4, 6, generator=g)
    assert torch.equal(label_map(heats.to(there), (9, 7)).cpu(), label_map(heats, (9, 7)))
