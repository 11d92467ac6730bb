"""Guidance acts for the pipeline that it is enabled on, whoever else calls the denoiser."""

import diffusers as d
import pytest
import torch

from sag import SelfAttentionGuidance
from tests.matrix.building import IMAGE, run, square_unet, variant
from tests.sag.helpers import count_calls
from tests.sag.loops import Loop
from tests.tiny_models import NEGATIVE, PROMPT
from tokenrank_guidance import capture

CALL = {
    "prompt": [PROMPT],
    "negative_prompt": [NEGATIVE],
    "num_inference_steps": 3,
    "output_type": "latent",
}
SIZE = {"height": 32, "width": 32}
PICTURE = {"image": IMAGE, "strength": 1.0}


def pair():
    """Text-to-image and image-to-image over one UNet, as `from_pipe` makes them."""
    first = variant("sd", d.StableDiffusionPipeline, unet=square_unet("sd", 4))
    second = d.StableDiffusionImg2ImgPipeline(
        **{name: part for name, part in first.components.items() if name != "image_encoder"},
        requires_safety_checker=False,
    )
    second.set_progress_bar_config(disable=True)
    return first, second


@pytest.fixture
def two():
    return pair()


def drawn(pipe, **options):
    return run(pipe, CALL | (PICTURE if "Img2Img" in type(pipe).__name__ else SIZE) | options)


def guided_alone(pipe, **options):
    with SelfAttentionGuidance()(pipe):
        return drawn(pipe, **options)


def test_another_pipeline_over_the_same_unet_is_left_unguided(two):
    first, second = two
    plain = drawn(second)
    with SelfAttentionGuidance()(first) as guidance:
        drawn(first, guidance_scale=1.0)
        assert len(guidance.steps) == 3
        assert torch.equal(drawn(second), plain)
        assert len(guidance.steps) == 3


@pytest.mark.parametrize("own_scheduler", [False, True])
def test_two_pipelines_on_one_unet_are_each_guided_as_alone(two, own_scheduler):
    first, second = two
    if own_scheduler:
        second.scheduler = d.EulerDiscreteScheduler.from_config(first.scheduler.config)
    wanted = [guided_alone(pipe) for pipe in two]
    with SelfAttentionGuidance()(first) as one, SelfAttentionGuidance()(second) as other:
        for _ in range(2):
            found, calls = count_calls(first.unet, lambda: drawn(first))
            assert calls == 6
            assert torch.equal(found, wanted[0])
            assert torch.equal(drawn(second), wanted[1])
    assert len(one.steps) == len(other.steps) == 3


def test_they_need_not_be_guided_in_the_same_way(two):
    first, second = two
    with SelfAttentionGuidance("sag", 0.3)(second):
        wanted = drawn(second)
    with SelfAttentionGuidance()(first), SelfAttentionGuidance("sag", 0.3)(second):
        drawn(first)
        assert torch.equal(drawn(second), wanted)


def test_two_guidances_on_one_pipeline_are_refused(two):
    with SelfAttentionGuidance()(two[0]), pytest.raises(RuntimeError, match="another guidance is enabled"):
        SelfAttentionGuidance().enable(two[0])


def test_a_pipeline_inside_a_guided_one_is_asked_for_its_own_schedule(two):
    """A combined pipeline calls another one; the inner one knows scheduler and latents."""
    first, _ = two
    wanted = guided_alone(first)

    class Outer:
        unet, scheduler = first.unet, first.scheduler

        def draw(self):
            return drawn(first)

    outer = Outer()
    with SelfAttentionGuidance()(outer):
        assert torch.equal(outer.draw(), wanted)


def test_a_loop_that_guidance_is_not_enabled_on_is_left_unguided(two):
    first, _ = two
    loop = Loop()
    loop.unet = first.unet
    plain = loop.sample()
    told = pytest.warns(UserWarning, match="nothing was guided: the denoiser was called 2 times")
    with told, SelfAttentionGuidance()(first):
        assert torch.equal(loop.sample(), plain)
    with SelfAttentionGuidance()(first):  # no warning: something was guided
        drawn(first)
        assert torch.equal(loop.sample(), plain)


def test_a_method_that_does_not_sample_is_left_unguided():
    """DiffEdit's `invert` runs the schedule backwards."""
    pipe = variant(
        "sd",
        d.StableDiffusionDiffEditPipeline,
        unet=square_unet("sd", 4),
        inverse_scheduler=d.DDIMInverseScheduler(clip_sample=False),
        feature_extractor=None,
    )
    call = {"prompt": PROMPT, "image": IMAGE, "num_inference_steps": 3, "inpaint_strength": 0.9}

    def inverted():
        return pipe.invert(**call, generator=torch.Generator().manual_seed(0)).latents

    plain = inverted()
    with pytest.warns(UserWarning, match="nothing was guided"), SelfAttentionGuidance()(pipe) as guidance:
        assert torch.equal(inverted(), plain)
    assert guidance.steps == []


def test_a_capture_around_a_guided_call_sees_the_pipelines_own_passes(two):
    first, _ = two
    records = {}
    for scale in (0.0, 0.75):
        with SelfAttentionGuidance(sag_scale=scale)(first), capture(first.unet, keep=None) as maps:
            drawn(first)
        records[scale] = list(maps)
    assert [record.batch for record in records[0.75]] == [2, 2, 2]
    assert torch.equal(records[0.75][0].q, records[0.0][0].q)


def test_the_extra_pass_is_called_as_the_pipeline_calls():
    """tomesd reads arguments by position."""
    seen = []

    def by_position(unet, x, t, states):
        return unet(x, t, states).sample

    loop = Loop(call=by_position)
    loop.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    with SelfAttentionGuidance()(loop):
        found = loop.sample()
    assert seen == [3] * 4
    by_name = Loop()
    with SelfAttentionGuidance()(by_name):
        assert torch.equal(found, by_name.sample())


def test_a_denoiser_that_came_while_guidance_was_enabled_is_said_to_be_unguided(two):
    first, _ = two
    before, other = first.unet, square_unet("sd", 4)
    first.unet = other
    plain = drawn(first)
    first.unet = before
    guidance = SelfAttentionGuidance().enable(first)
    first.unet = other
    assert torch.equal(drawn(first), plain)
    with pytest.warns(UserWarning, match="was not guided: it was exchanged"):
        guidance.disable()
    with SelfAttentionGuidance()(first):
        assert not torch.equal(drawn(first), plain)
