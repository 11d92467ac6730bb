"""What a family refuses once it sees a call: the error says why, and leaves nothing behind."""

import pytest
import torch

from sag import SelfAttentionGuidance
from sag.families import FAMILIES
from tests import tiny_dits as dits
from tests.sag.helpers import traces
from tests.tiny_models import pipeline, run
from tokenrank_guidance import UnsupportedError


def test_several_layers_of_qwen_image_at_once():
    pipe = pipeline("qwen")
    pipe.transformer.register_to_config(use_layer3d_rope=True)
    run("qwen", pipe)  # diffusers' own cache stays on a denoiser that ran
    before = traces(pipe.transformer)
    with pytest.raises(UnsupportedError, match="makes several layers at once"), SelfAttentionGuidance()(pipe):
        run("qwen", pipe)
    assert traces(pipe.transformer) == before


def test_several_frames_of_kandinsky_5():
    family, model = FAMILIES["Kandinsky5Transformer3DModel"], dits.kandinsky5()
    assert family.doubled(None, model, {"hidden_states": torch.zeros(1, 1, 8, 8, 4)}) is False
    with pytest.raises(UnsupportedError, match="several frames at once: its latents have a time axis"):
        family.doubled(None, model, {"hidden_states": torch.zeros(1, 2, 8, 8, 4)})


@pytest.mark.parametrize("mode", ["extract", "cached"])
def test_cached_keys_of_flux2s_reference_images(mode):
    family, model = FAMILIES["Flux2Transformer2DModel"], dits.flux2()
    with pytest.raises(UnsupportedError, match="use Flux2KleinPipeline"):
        family.doubled(None, model, {"kv_cache_mode": mode})
