"""Beside perturbed-attention guidance: the part that is looked at is the one that the plain pipeline has."""

import diffusers as d
import pytest
import torch

from sag import SelfAttentionGuidance
from tests import tiny_networks as tiny
from tests.matrix.building import Row, seeded, square_unet, variant
from tests.matrix.rows import run
from tests.tiny_models import ARGUMENTS, Call, pipeline

PIPELINES = {
    "sd": (d.StableDiffusionPAGPipeline, d.StableDiffusionPipeline),
    "sd3": (d.StableDiffusion3PAGPipeline, d.StableDiffusion3Pipeline),
    "hunyuan": (d.HunyuanDiTPAGPipeline, d.HunyuanDiTPipeline),
}


def network(family):
    """SD3's without norms of queries and keys, which diffusers' perturbing processors leave out."""
    if family == "sd":
        return {"unet": square_unet("sd", 4)}
    if family == "sd3":
        config = dict(tiny.sd3().config) | {"qk_norm": None}
        return {"transformer": seeded(lambda: d.SD3Transformer2DModel.from_config(config))}
    return {"transformer": pipeline(family).transformer}


def first_score(pipe, arguments, layer):
    with SelfAttentionGuidance(layers=layer)(pipe) as guidance:
        run(pipe, arguments)
    return guidance.steps[0].score


@pytest.mark.filterwarnings("ignore:Safety checker disabled:UserWarning")
@pytest.mark.filterwarnings("ignore:You have disabled the safety checker:UserWarning")
@pytest.mark.parametrize("layer", ["auto", 0])
@pytest.mark.parametrize("family", PIPELINES)
def test_tokens_are_ranked_by_the_first_part_alone(family, layer):
    shared = network(family)
    both = [variant(family, cls, **shared) for cls in PIPELINES[family]]
    given = Row("beside", list, own=ARGUMENTS[family]).arguments(Call(steps=2))
    found = first_score(both[0], given | {"pag_scale": 2.0}, layer)
    torch.testing.assert_close(found, first_score(both[1], given, layer), rtol=1e-4, atol=1e-4)
