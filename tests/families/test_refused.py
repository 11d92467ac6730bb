"""What a family refuses once it sees a call: the error says why, and leaves nothing behind."""

import inspect
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
from tokenrank_guidance.families.registry import FAMILIES, calling_of


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


def denoisers():
    """(pipeline, denoiser class) for every pipeline of diffusers with a `unet` or `transformer`."""
    for name in dir(d):
        cls = getattr(d, name)
        if inspect.isclass(cls) and issubclass(cls, d.DiffusionPipeline):
            parts = inspect.signature(cls.__init__).parameters
            for part in {"unet", "transformer"} & set(parts):
                yield name, re.findall(r"(\w+)(?:'>| \||$)", str(parts[part].annotation))


def test_every_denoiser_of_diffusers_is_guided_or_refused_with_a_reason_of_its_own():
    silent, known = {}, {name for family in FAMILIES for name in family.models}
    for name, classes in denoisers():
        unknown = set(classes) - known - set(REFUSED) - {"None"}
        if unknown:
            silent[name] = unknown
    assert not silent
    assert len({name for name, _ in denoisers()}) > 250


@pytest.mark.parametrize(
    "name", ["OmniGenTransformer2DModel", "StableAudioDiTModel", "RFD4ProteinaTransformer"]
)
def test_the_reason_is_the_denoisers_own(name):
    network = getattr(d, name).__new__(getattr(d, name))
    torch.nn.Module.__init__(network)
    with pytest.raises(UnsupportedError, match=f"^cannot guide {name}: {re.escape(REFUSED[name])}$"):
        calling_of(network)
