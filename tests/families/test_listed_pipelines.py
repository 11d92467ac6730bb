"""The same denoisers in their pipelines: words, segments, and what their samples mean."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from diffseg import DiffSeg
from diffseg.words import word_tokens
from sag import SelfAttentionGuidance, degraded
from sag.predict import predict
from tests import tiny_listed as tiny
from tests.diffseg.helpers import image
from tests.matrix.rows import ROWS, run
from tests.tiny_models import Call


def z_text(pipe, caption):
    return pipe.encode_prompt(caption, do_classifier_free_guidance=False)[0][0]


def hidream_text(pipe, caption):
    """The tokens of T5, of Llama's last layer and of the first block's."""
    text, _, llama, *_ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    return torch.cat([text[0], *(nn.functional.pad(layer, (0, 16)) for layer in (llama[1, 0], llama[0, 0]))])


@pytest.mark.parametrize(
    ("build", "text", "times"), [(tiny.z_pipeline, z_text, 1), (tiny.hidream_pipeline, hidream_text, 3)]
)
def test_a_words_tokens_are_those_that_change_with_it(build, text, times):
    """T5 and Llama let others change too: the most changed of each encoder's."""
    pipe = build()
    if times == 1:
        pipe.tokenizer.chat_template = "<u>{{ messages[0].content }}<e>"
    (places,) = word_tokens(pipe, "a rod box", ["rod"])
    changed = (text(pipe, "a rod box") - text(pipe, "a rxd box")).norm(dim=1)
    assert len(places) == 3 * times
    size = len(changed) // times
    for part in range(times):
        one = changed[part * size : (part + 1) * size]
        assert part * size + int(one.argmax()) == places[3 * part + 1]


@pytest.mark.parametrize("build", [tiny.z_pipeline, tiny.hidream_pipeline])
def test_words_name_the_segments_of_a_picture(build):
    segmenter = DiffSeg.from_pipe(build(), num_anchors=4, resolution=32)
    found = segmenter(image(36, 60), "a red box")
    assert found.labels.shape == (36, 60)
    assert set(found.names) <= {"red", "box"}


def clean_pictures(pipe, monkeypatch):
    """Two lists that a run fills: guidance's own (x̂₀, ε̂), and x̂₀ as the scheduler has it."""
    estimates, wanted, step = [], [], pipe.scheduler.step

    def kept(*given):
        estimates.append(predict(*given))
        return estimates[-1]

    def spied(model_output, t, sample, **options):
        wanted.append(scheduled(pipe.scheduler, model_output, t, sample))
        return step(model_output, t, sample, **options)

    monkeypatch.setattr(degraded, "predict", kept)
    monkeypatch.setattr(pipe.scheduler, "step", spied)
    return estimates, wanted


def scheduled(scheduler, model_output, t, sample):
    """x̂₀ as diffusers has it: predicted, or where its step to no noise at all leads."""
    other = deepcopy(scheduler)
    step = partial(type(other).step, other)
    if not hasattr(other, "sigmas"):
        return step(model_output, t, sample).pred_original_sample
    other._step_index = other.index_for_timestep(t)
    other.sigmas[other.step_index + 1] = float(other.config.invert_sigmas)
    return step(model_output, t, sample).prev_sample


MORE = ("Kandinsky3", "ErnieImage", "NucleusMoEImage", "QwenImage21")


@pytest.mark.parametrize(
    ("name", "cfg"),
    [
        *[(name, cfg) for name in ("ZImage", "HiDreamImage") for cfg in (False, True)],
        *[pytest.param(name, cfg, marks=pytest.mark.matrix) for name in MORE for cfg in (False, True)],
        pytest.param("GlmImage", False, marks=pytest.mark.matrix),  # without a negative prompt of one's own
        pytest.param("OmniGen", False, marks=pytest.mark.matrix),
    ],
)
def test_the_clean_picture_is_the_schedulers(name, cfg, monkeypatch):
    """Both halves see one prompt, so that what the scheduler is given is either's output."""
    row = ROWS[name]
    pipe, arguments = row.build(), row.arguments(Call(cfg=cfg, steps=3))
    if name == "OmniGen":
        arguments["guidance_scale"] = 0.0  # the unconditional part alone
    if cfg:
        arguments["negative_prompt"] = list(arguments["prompt"])
    estimates, wanted = clean_pictures(pipe, monkeypatch)
    with SelfAttentionGuidance(sag_scale=1e-6)(pipe):
        run(pipe, arguments)
    assert len(estimates) == len(wanted) == 3
    for (clean, _), picture in zip(estimates, wanted, strict=True):
        torch.testing.assert_close(clean, picture, rtol=1e-4, atol=1e-4)
