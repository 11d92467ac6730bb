import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from tests import tiny_networks as tiny
from tests.capture.helpers import SD_CROSS, SD_MIDDLE, seeded, unet
from tests.tiny_models import PIPELINES, denoiser, pipeline
from tokenrank_guidance.capture import AttentionTap, capture
from tokenrank_guidance.errors import UnsupportedError

AUTO = {
    "sd": SD_MIDDLE,
    "sdxl": SD_MIDDLE,
    "sd3": "transformer_blocks.1.attn",
    "flux": "transformer_blocks.1.attn",
    "pixart": "transformer_blocks.1.attn1",
    "dit": "transformer_blocks.1.attn1",
    "ddpm": "mid_block.attentions.0",
}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_default_layer_of_each_family(name):
    assert AttentionTap(denoiser(pipeline(name))).layers == (AUTO[name],)


def test_without_attention_in_the_middle_the_deepest_is_taken():
    model = seeded(tiny.unet)
    model.mid_block = nn.Identity()
    assert AttentionTap(model).layers == ("down_blocks.0.attentions.0.transformer_blocks.0.attn1",)


def test_all_are_the_self_attention_layers_in_running_order():
    layers = AttentionTap(unet(), "all").layers
    assert [name.split(".")[0] for name in layers] == ["down_blocks", "mid_block", "up_blocks", "up_blocks"]
    assert all(name.endswith("attn1") for name in layers)


def test_names_indices_and_lists_choose():
    model = unet()
    every = AttentionTap(model, "all").layers
    assert AttentionTap(model, SD_MIDDLE).layers == (SD_MIDDLE,)
    assert AttentionTap(model, 1).layers == (SD_MIDDLE,)
    assert AttentionTap(model, -1).layers == every[-1:]
    assert AttentionTap(model, [SD_MIDDLE, 0, "auto", -3]).layers == (SD_MIDDLE, every[0])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (SD_MIDDLE.replace("mid", "mdi"), f"names are exact. Closest: {SD_MIDDLE}"),
        ("mid_block", "not an attention layer"),
        ("attn1", "not an attention layer"),
        (SD_CROSS, "is cross-attention"),
        (4, "has 4 self-attention layers"),
        (-5, "has 4 self-attention layers"),
        ([], "layers is empty"),
        (True, "a layer is a module name or an index, got True"),
        ([0.5], "got 0.5"),
    ],
)
def test_a_wrong_choice_says_what_is_right(layers, message):
    with pytest.raises(ValueError, match=message), capture(unet(), layers):
        pytest.fail("the block must not run")


def test_a_subclass_has_its_base_class_layout():
    class Mine(UNet2DConditionModel):
        pass

    model = unet()
    model.__class__ = Mine
    assert AttentionTap(model).layers == (SD_MIDDLE,)


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(UnsupportedError, match=r"capture Linear: .*; known: .*Flux.*, UNet2DConditionModel"):
        AttentionTap(nn.Linear(2, 2))


def test_a_pipeline_is_not_a_model():
    with pytest.raises(TypeError, match=r"pipe\.unet or pipe\.transformer, got StableDiffusionPipeline"):
        AttentionTap(pipeline("sd"))


def test_a_compiled_model_is_unwrapped():
    model = unet()
    assert AttentionTap(torch.compile(model, backend="eager")).model is model
