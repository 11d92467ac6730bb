"""Pipelines that make something else of what their denoiser predicts, and give that to the scheduler."""

import pytest
import torch

import sag.degraded
from sag import SelfAttentionGuidance
from tests.sag.loops import Loop, classifier_free
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.families.calling import Habits


def converted(outputs):
    """A velocity made of clean images, as far as the movement goes."""
    return (1.5 - classifier_free(outputs)) / 3


def by_channel(outputs):
    return converted(outputs) * torch.tensor([1.0, 1.0, 1.0, 0.5]).view(-1, 1, 1)


BREAKING = {
    "each channel by another number": by_channel,
    "clipped": lambda outputs: converted(outputs).clamp(-0.1, 0.1),
    "weights that sum to 0": lambda outputs: outputs[1] - outputs[0],
}


@pytest.fixture(autouse=True)
def clean_images(monkeypatch):
    """The loop's denoiser predicts them."""
    monkeypatch.setattr("sag.hook.guidable", lambda pipe: Habits(predicts="sample"))


def test_the_prediction_is_the_denoisers(monkeypatch):
    seen, own = [], sag.degraded._split

    def split(call, level):
        seen.append((own(call, level)[0], call.prediction))
        return own(call, level)

    monkeypatch.setattr(sag.degraded, "_split", split)
    loop = Loop(combine=converted)
    plain = loop.sample(2)
    with SelfAttentionGuidance()(loop) as guidance:
        guided = loop.sample(2)
    assert len(guidance.steps) == 2
    assert all(torch.equal(clean, prediction) for clean, prediction in seen)
    assert (guided - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", BREAKING)
def test_what_comes_out_must_be_what_went_in_times_one_number(name):
    loop = Loop(combine=BREAKING[name])
    with SelfAttentionGuidance()(loop), pytest.raises(UnsupportedError, match="weights that sum to 1"):
        loop.sample(2)


def test_least_squares_look_at_the_input_alone():
    loop = Loop(combine=converted)
    with torch.inference_mode(), SelfAttentionGuidance()(loop) as guidance:
        loop.sample(2)
    assert len(guidance.steps) == 2
    other = Loop(combine=converted, given=lambda latents: 1.1 * latents)
    with (
        torch.inference_mode(),
        SelfAttentionGuidance()(other),
        pytest.raises(UnsupportedError, match="is not the sample"),
    ):
        other.sample(2)
