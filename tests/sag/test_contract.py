"""What makes guidance right is checked while sampling: what keeps it is guided, all else refused."""

from contextlib import nullcontext

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from sag import SelfAttentionGuidance
from sag.contract import Contract
from tests.matrix.rows import ROWS
from tests.matrix.rows import run as draw
from tests.sag.helpers import EVERY_FAMILY, traces
from tests.sag.loops import Loop, classifier_free, text
from tests.tiny_models import Call, pipeline, run
from tokenrank_guidance import UnsupportedError


def by_channel(outputs):
    """Lumina guides three channels and leaves the fourth to the prompt."""
    guided = classifier_free(outputs)
    return torch.cat([guided[:, :3], outputs[1][:, 3:]], 1)


def where_they_differ(outputs):
    """Safe Stable Diffusion's weights differ from value to value, and sum to 1 in each."""
    unconditional, conditional = outputs
    difference = conditional - unconditional
    strength = torch.where(difference.abs() > difference.abs().quantile(0.7), 5.0, 0.5)
    return unconditional + strength * difference


def rescaled(outputs):
    guided = classifier_free(outputs)
    return guided * outputs[1].std() / guided.std()


def normalised(outputs):
    guided = classifier_free(outputs)
    return guided * outputs[1].norm(dim=1, keepdim=True) / guided.norm(dim=1, keepdim=True)


AFFINE = {"one": lambda outputs: outputs[1], "classifier-free": classifier_free, "by channel": by_channel}
BREAKING = {
    "weights that sum to 0.9": lambda outputs: 0.9 * classifier_free(outputs),
    "weights that sum to 0": lambda outputs: outputs[1] - outputs[0],
    "rescaled to a part's deviation": rescaled,
    "normalised": normalised,
    "clipped": lambda outputs: classifier_free(outputs).clamp(-0.5, 0.5),
    "rows exchanged": lambda outputs: classifier_free(outputs).flip(0),
}
MODES = {"dual numbers": nullcontext, "least squares": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", AFFINE)
def test_affine_combinations_are_guided(name, mode):
    loop = Loop(combine=AFFINE[name])
    with MODES[mode]():
        plain = loop.sample(2)
        with SelfAttentionGuidance()(loop) as guidance:
            guided = loop.sample(2)
    assert len(guidance.steps) == 2
    assert (guided - plain).abs().max() > 1e-3


def test_weights_that_differ_from_value_to_value_are_guided():
    loop = Loop(combine=where_they_differ)
    with SelfAttentionGuidance()(loop) as guidance:
        loop.sample()
    assert len(guidance.steps) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BREAKING)
def test_other_combinations_are_refused(name, mode):
    loop = Loop(combine=BREAKING[name])
    before = traces(loop.unet)
    with (
        MODES[mode](),
        SelfAttentionGuidance()(loop),
        pytest.raises(UnsupportedError, match=r"cannot guide Loop: .* weights that sum to 1"),
    ):
        loop.sample(2)
    assert traces(loop.unet) == before
    assert "step" not in vars(loop.scheduler)
    assert forward_ad._current_level < 0


def test_the_refusal_says_how_much_of_the_guidance_comes_out():
    loop = Loop(combine=BREAKING["weights that sum to 0.9"])
    with (
        SelfAttentionGuidance()(loop),
        pytest.raises(UnsupportedError, match=r"to all of them, 0\.9 comes out"),
    ):
        loop.sample()


@pytest.mark.parametrize("mode", MODES)
def test_a_denoiser_that_is_not_given_the_schedulers_sample_is_refused(mode):
    loop = Loop(given=lambda latents: 1.1 * latents)
    with (
        MODES[mode](),
        SelfAttentionGuidance()(loop),
        pytest.raises(UnsupportedError, match="is not the sample that its scheduler steps"),
    ):
        loop.sample()


class Euler(Loop):
    """Its method calls nothing that is named `step`."""

    @torch.no_grad()
    def sample(self, images=1):
        latents = torch.randn(images, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        self.scheduler.set_timesteps(self.count)
        for t in self.scheduler.timesteps:
            outputs = self.call(self.unet, torch.cat([latents] * 2), t, text(2)).chunk(2)
            latents = latents - 0.1 * self.combine(outputs)
        return latents


@pytest.mark.parametrize("loop", [Euler(steps=4), Loop(steps=4, stepping=False)])
def test_a_loop_without_step_is_guided_and_said_once_to_be_unchecked(loop):
    plain = loop.sample()
    told = pytest.warns(UserWarning, match=r"does not step by scheduler\.step")
    with told as warned, SelfAttentionGuidance()(loop) as guidance:
        guided = loop.sample()
    assert len(warned) == 1
    assert len(guidance.steps) == 4
    assert (guided - plain).abs().max() > 1e-3
    assert forward_ad._current_level < 0


@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_the_check_changes_no_image(name, cfg, monkeypatch):
    """Bit for bit what comes without it."""
    pipe, call = pipeline(name), Call(cfg=cfg, batch=2, steps=2)
    with SelfAttentionGuidance()(pipe):
        checked = run(name, pipe, call)
    begin = Contract.__init__

    def finished(contract):
        begin(contract)
        contract.done = True

    monkeypatch.setattr(Contract, "__init__", finished)
    with SelfAttentionGuidance()(pipe):
        assert torch.equal(run(name, pipe, call), checked)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_stays_when_the_pipeline_fails_before_its_step(error):
    def fail(outputs):
        raise error("stopped")

    loop = Loop(combine=fail)
    with pytest.raises(error, match="stopped"), SelfAttentionGuidance()(loop):
        loop.sample()
    assert "step" not in vars(loop.scheduler)
    assert forward_ad._current_level < 0


def test_a_step_that_somebody_put_on_the_scheduler_stays():
    loop, calls = Loop(), []
    step = loop.scheduler.step

    def counted(*args, **kwargs):
        calls.append(args)
        return step(*args, **kwargs)

    loop.scheduler.step = counted
    with SelfAttentionGuidance()(loop):
        loop.sample()
    assert len(calls) == 2
    assert loop.scheduler.step is counted


def test_it_is_checked_in_every_run():
    loop = Loop()
    with SelfAttentionGuidance()(loop):
        loop.sample()
        loop.combine = BREAKING["clipped"]
        with pytest.raises(UnsupportedError, match="sum to 1"):
            loop.sample()


def test_guidance_rescale_takes_part_of_the_guidance_away_and_is_no_breach():
    pipe = pipeline("sd")
    for rescale in (0.0, 0.7):
        with SelfAttentionGuidance()(pipe) as guidance:
            pipe("a red box", height=32, width=32, num_inference_steps=2, guidance_rescale=rescale)
        assert len(guidance.steps) == 2


def test_in_inference_mode_such_weights_are_refused_with_what_helps():
    loop = Loop(combine=where_they_differ)
    with (
        torch.inference_mode(),
        SelfAttentionGuidance()(loop),
        pytest.raises(UnsupportedError, match=r"are found outside torch\.inference_mode alone"),
    ):
        loop.sample()


def test_brias_normalising_rescales_all_guidance_too():
    row = ROWS["Bria"]
    pipe, arguments = row.build(), row.arguments(Call(steps=3)) | {"normalize": True}
    plain = draw(pipe, arguments)
    with SelfAttentionGuidance()(pipe) as guidance:
        assert not torch.equal(draw(pipe, arguments), plain)
    assert len(guidance.steps) == 3
