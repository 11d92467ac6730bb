"""Which pipeline a name means, and which of its parts denoises."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.tiny_models import pipeline
from tokenrank_guidance import pipelines
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.pipelines import denoiser_of, load_model


@pytest.mark.parametrize(("name", "part"), [("sd", "unet"), ("sd3", "transformer"), ("flux", "transformer")])
def test_the_denoiser_is_the_unet_or_the_transformer(name, part):
    pipe = pipeline(name)
    assert denoiser_of(pipe) is getattr(pipe, part)


def test_the_denoiser_comes_out_of_its_compiled_wrapper():
    network = nn.Linear(1, 1)
    assert denoiser_of(SimpleNamespace(unet=None, transformer=torch.compile(network))) is network


@pytest.mark.parametrize("pipe", [{}, SimpleNamespace(unet="sd.safetensors"), None])
def test_what_has_no_denoiser_is_refused(pipe):
    refusal = f"^{type(pipe).__name__} has neither a unet nor a transformer$"
    with pytest.raises(UnsupportedError, match=refusal):
        denoiser_of(pipe)


@pytest.mark.parametrize("name", ["tiny-dit", "a b/c", "x/y/z", "no-such-folder/"])
def test_a_name_that_means_no_model_is_refused_without_asking_the_hub(name):
    with pytest.raises(ValueError, match=f"^no model '{name}'; expected one of .*folder or a Hub id"):
        load_model(name, "cpu", torch.float32)


def test_an_installation_without_weights_says_so(monkeypatch):
    monkeypatch.setattr(pipelines, "available_models", tuple)
    with pytest.raises(ValueError, match="lacks the embedded models' weights"):
        load_model(None, "cpu", torch.float32)
