"""All families guided; whatever ends a run, nothing of it stays."""

import threading

import pytest
import torch
from torch.overrides import _len_torch_function_stack

from sag import SelfAttentionGuidance
from tests.sag.helpers import EVERY_FAMILY, same_weights, traces, weights
from tests.tiny_models import Call, denoiser, pipeline, run
from tokenrank_guidance import AttentionTap


@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_guided_images_differ_are_finite_and_the_pipeline_is_itself_again(name, cfg):
    pipe, call = pipeline(name), Call(cfg=cfg, batch=2)
    model = denoiser(pipe)
    plain = run(name, pipe, call)
    before, state = traces(model), weights(model)
    with SelfAttentionGuidance()(pipe):
        guided = run(name, pipe, call)
        assert torch.equal(run(name, pipe, call), guided)
    assert torch.isfinite(guided).all()
    assert (guided - plain).abs().max() > 1e-4
    assert traces(model) == before
    assert same_weights(model, state)
    assert torch.equal(run(name, pipe, call), plain)


class Failing:
    """An attention processor that raises in the middle of its `at`-th call."""

    def __init__(self, processor, error, at):
        self.processor, self.error, self.left = processor, error, at

    def __call__(self, attn, *args, **kwargs):
        output = self.processor(attn, *args, **kwargs)
        self.left -= 1
        if self.left == 0:
            raise self.error
        return output


ERRORS = {"error": RuntimeError("boom"), "interrupt": KeyboardInterrupt(), "exit": SystemExit()}


@pytest.mark.parametrize("where", [1, 2, 3], ids=["first call", "guidance's call", "second step"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["sd", "flux"])
def test_an_exception_inside_an_attention_layer_leaves_nothing(name, error, where):
    pipe, call = pipeline(name), Call(cfg=False)
    model = denoiser(pipe)
    plain = run(name, pipe, call)
    layer = model.get_submodule(AttentionTap(model).layers[0])
    processor = layer.processor
    layer.processor = Failing(processor, ERRORS[error], where)
    before = traces(model)
    with pytest.raises(type(ERRORS[error])), SelfAttentionGuidance()(pipe):
        run(name, pipe, call)
    assert _len_torch_function_stack() == 0
    assert traces(model) == before
    layer.processor = processor
    assert torch.equal(run(name, pipe, call), plain)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", [1, 2])
def test_a_guidance_that_stays_enabled_guides_the_next_run_as_if_nothing_had_been(error, where):
    pipe = pipeline("sd")
    layer = pipe.unet.get_submodule(AttentionTap(pipe.unet).layers[0])
    processor = layer.processor
    guidance = SelfAttentionGuidance().enable(pipe)
    guided = run("sd", pipe)
    layer.processor = Failing(processor, ERRORS[error], where)
    with pytest.raises(type(ERRORS[error])):
        run("sd", pipe)
    layer.processor = processor
    assert torch.equal(run("sd", pipe), guided)
    assert [step.number for step in guidance.steps] == [0, 1]
    guidance.disable()


def test_an_exception_in_a_callback_leaves_nothing():
    pipe = pipeline("sd")
    before = traces(pipe.unet)

    def fail(*args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), SelfAttentionGuidance()(pipe):
        pipe("a", height=32, width=32, num_inference_steps=2, callback_on_step_end=fail)
    assert traces(pipe.unet) == before


def test_a_failing_scorer_leaves_nothing():
    pipe = pipeline("sd")
    before = traces(pipe.unet)
    with (
        pytest.raises(ValueError, match="the scorer returned"),
        SelfAttentionGuidance(lambda record: record.q)(pipe),
    ):
        run("sd", pipe)
    assert traces(pipe.unet) == before


def test_two_threads_do_not_disturb_each_other():
    names, call = ("sd", "flux"), Call(steps=4)
    pipes = {name: pipeline(name) for name in names}
    results, errors = {}, []

    def work(name):
        try:
            with SelfAttentionGuidance()(pipes[name]) as guidance:
                images = run(name, pipes[name], call)
            results[name] = (images, [step.score for step in guidance.steps])
        except Exception as error:
            errors.append(error)

    alone = {}
    for name in names:
        work(name)
        alone[name] = results.pop(name)
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for name in names:
        assert torch.equal(results[name][0], alone[name][0])
        torch.testing.assert_close(results[name][1], alone[name][1], rtol=0, atol=0)
