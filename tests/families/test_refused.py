"""What a family refuses once it sees a call: the error says why, and leaves nothing behind."""

import re

import diffusers as d
import pytest
import torch

from sag import SelfAttentionGuidance
from tests import tiny_dits as dits
from tests import tiny_videos as videos
from tests.matrix.building import seeded
from tests.sag.helpers import traces
from tests.tiny_models import pipeline, run
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.families.refused import REFUSED
from tokenrank_guidance.families.registry import calling_of


def test_several_layers_of_qwen_image_at_once():
    pipe = pipeline("qwen")
    pipe.transformer.register_to_config(use_layer3d_rope=True)
    run("qwen", pipe)  # diffusers' own cache stays on a denoiser that ran
    before = traces(pipe.transformer)
    with pytest.raises(UnsupportedError, match="makes several layers at once"), SelfAttentionGuidance()(pipe):
        run("qwen", pipe)
    assert traces(pipe.transformer) == before


def test_neighbourhoods_of_kandinsky_5():
    model = dits.kandinsky5()
    calling = calling_of(model)
    assert calling.refused(model, {"sparse_params": None}) == ""
    assert "attends to neighbourhoods alone" in calling.refused(model, {"sparse_params": {}})


def test_the_mean_flow_of_hunyuan_video_15():
    calling = calling_of(seeded(videos.hunyuan_video_15))
    assert calling.refused(torch.nn.Identity(), {"timestep_r": None}) == ""
    assert "predicts the mean flow" in calling.refused(torch.nn.Identity(), {"timestep_r": torch.ones(1)})


@pytest.mark.parametrize("mode", ["extract", "cached"])
def test_cached_keys_of_flux2s_reference_images(mode):
    model = dits.flux2()
    assert "use Flux2KleinPipeline" in calling_of(model).refused(model, {"kv_cache_mode": mode})


@pytest.mark.parametrize("name", ["Ideogram4Transformer2DModel", "StableAudioDiTModel", "UVit2DModel"])
def test_the_reason_is_the_denoisers_own(name):
    network = getattr(d, name).__new__(getattr(d, name))
    torch.nn.Module.__init__(network)
    with pytest.raises(UnsupportedError, match=f"^cannot guide {name}: {re.escape(REFUSED[name])}$"):
        calling_of(network)
