"""The networks of a pipeline."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.tiny_models import pipeline
from tokenrank_guidance.components import autoencoder_of, denoiser_of, denoisers_of
from tokenrank_guidance.errors import UnsupportedError


@pytest.mark.parametrize(("name", "part"), [("sd", "unet"), ("sd3", "transformer"), ("flux", "transformer")])
def test_the_denoiser_is_the_unet_or_the_transformer(name, part):
    pipe = pipeline(name)
    assert denoiser_of(pipe) is getattr(pipe, part)


def test_the_denoiser_comes_out_of_its_compiled_wrapper():
    network = nn.Linear(1, 1)
    assert denoiser_of(SimpleNamespace(unet=None, transformer=torch.compile(network))) is network


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (("decoder",), ["decoder"]),
        (("prior",), ["prior"]),
        (("decoder", "prior"), ["decoder"]),
        (("unet", "prior"), ["unet"]),
        (("transformer", "transformer_2", "decoder"), ["transformer", "transformer_2"]),
    ],
)
def test_a_stage_of_a_cascade_is_the_denoiser_where_there_is_no_other(parts, wanted):
    """StableUnCLIP's prior makes embeddings beside its UNet."""
    pipe = SimpleNamespace(**{name: nn.Identity() for name in parts})
    assert denoisers_of(pipe) == [getattr(pipe, name) for name in wanted]


@pytest.mark.parametrize("pipe", [{}, SimpleNamespace(unet="sd.safetensors"), None])
def test_what_has_no_denoiser_is_refused(pipe):
    refusal = f"^{type(pipe).__name__} has neither a unet nor a transformer$"
    with pytest.raises(UnsupportedError, match=refusal):
        denoiser_of(pipe)


def test_the_autoencoder_is_there_or_none():
    pipe = pipeline("sd")
    assert autoencoder_of(pipe) is pipe.vae
    assert autoencoder_of(SimpleNamespace(vqvae=pipe.vae)) is pipe.vae
    assert autoencoder_of(pipeline("ddpm")) is None
