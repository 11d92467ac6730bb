import importlib
import threading
from functools import partial

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import no_grad
from torch.overrides import _len_torch_function_stack

from tests import tiny_networks as tiny
from tests.capture.helpers import (
    SD_MIDDLE,
    Spy,
    flux_inputs,
    hook_counts,
    sd3_inputs,
    seeded,
    unet,
    unet_inputs,
)
from tests.tiny_models import PIPELINES, denoiser, pipeline, run
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.errors import CaptureError


@pytest.mark.parametrize("layers", ["auto", "all"])
@pytest.mark.parametrize("name", PIPELINES)
def test_no_bit_of_the_output_changes_and_no_hook_stays(name, layers):
    pipe = pipeline(name)
    before = hook_counts(denoiser(pipe))
    expected = run(name, pipe)
    with capture(denoiser(pipe), layers) as maps:
        output = run(name, pipe)
    assert torch.equal(output, expected)
    assert hook_counts(denoiser(pipe)) == before
    assert len(maps) == len(maps.layers)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_captured_map_reproduces_the_attention_output(name):
    pipe = pipeline(name)
    with Spy() as spy, capture(denoiser(pipe), "all") as maps:
        run(name, pipe)
    seen = {call["query"].data_ptr(): call for call in spy.calls}
    for record in maps:
        call = seen[record.q.data_ptr()]
        torch.testing.assert_close(record.maps() @ call["value"], call["output"], rtol=1e-4, atol=1e-5)


# SD3 is left out: diffusers' fused processor for it forgets the norm of queries and keys, and dual attention.
FUSED = {"sd": (unet, unet_inputs), "flux": (lambda: seeded(tiny.flux), flux_inputs)}


@no_grad()
@pytest.mark.parametrize("name", FUSED)
def test_fused_projections_give_the_same_records(name):
    model, inputs = (build() for build in FUSED[name])
    with capture(model) as maps:
        model(**inputs)
    with capture(model, reduce=lambda record: record.q.clone()) as queries:
        model.fuse_qkv_projections()
        model(**inputs)
    torch.testing.assert_close(queries[-1], maps[-1].q)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_grad_mode_captures_detached_tensors(mode):
    model = unet()
    with mode(), capture(model) as maps:
        model(**unet_inputs())
    assert not maps[-1].q.requires_grad


def test_flux_works_in_inference_mode():
    model = seeded(tiny.flux)
    with torch.inference_mode(), capture(model) as maps:
        model(**flux_inputs(4, 6))
    assert maps[-1].grid == (4, 6)


def test_detach_false_leaves_queries_in_the_graph():
    model = unet()
    with capture(model, detach=False) as maps:
        model(**unet_inputs())
    maps[-1].maps().square().sum().backward()
    assert model.get_submodule(SD_MIDDLE).to_q.weight.grad.abs().sum() > 0


@no_grad()
def test_bfloat16_is_kept_as_it_is_and_mapped_in_float32():
    model, inputs = unet().bfloat16(), unet_inputs()
    inputs = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()}
    with capture(model) as maps:
        model(**inputs)
    assert maps[-1].q.dtype == torch.bfloat16
    torch.testing.assert_close(maps[-1].maps().sum(-1), torch.ones(2, 2, 64))


@no_grad()
def test_records_are_those_of_the_last_call_unless_more_are_kept():
    model = unet()
    for keep, expected in [(1, 1), (2, 2), (None, 3)]:
        with capture(model, keep=keep) as maps:
            for batch in (1, 2, 3):
                model(**unet_inputs(batch=batch))
        assert [r.batch for r in maps] == [1, 2, 3][-expected:]
    for wrong in (0, "all", 1.5):
        with (
            pytest.raises(ValueError, match=f"keep: got {wrong!r}, expected a whole"),
            capture(model, keep=wrong),
        ):
            pytest.fail("the block must not run")


@no_grad()
def test_reduce_replaces_the_record():
    model = unet()
    with capture(model, reduce=lambda record: record.maps().mean((1, 2))) as scores:
        model(**unet_inputs())
    with capture(model) as maps:
        model(**unet_inputs())
    torch.testing.assert_close(scores[-1], maps[-1].maps().mean((1, 2)))
    assert scores[-1].shape == (2, 64)


@no_grad()
def test_records_are_live_inside_the_block_and_slices_are_lists():
    model = unet()
    with capture(model, "all") as maps:
        with pytest.raises(CaptureError, match="was not seen to run"):
            maps[-1]
        model(**unet_inputs())
        assert isinstance(maps[-1], AttentionRecord)
        assert [r.module for r in maps[1:]] == list(maps.layers[1:])
    assert SD_MIDDLE in repr(maps)


class Interrupt:
    """A processor that raises in the middle of an attention layer."""

    def __init__(self, error):
        self.error = error

    def __call__(self, attn, hidden_states, **kwargs):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit()])
def test_whatever_ends_the_block_no_hook_and_no_mode_stays(error):
    model = unet()
    before = hook_counts(model)
    model.get_submodule(SD_MIDDLE).set_processor(Interrupt(error))
    with pytest.raises(type(error)), capture(model):
        model(**unet_inputs())
    assert hook_counts(model) == before
    assert _len_torch_function_stack() == 0


def test_an_error_of_the_block_is_not_masked_by_an_empty_capture():
    with pytest.raises(ZeroDivisionError), capture(unet()):
        1 / 0  # noqa: B018


def test_a_mode_of_the_user_survives_an_interrupt():
    model = unet()
    model.get_submodule(SD_MIDDLE).set_processor(Interrupt(KeyboardInterrupt()))
    with Spy() as outer:
        with pytest.raises(KeyboardInterrupt), capture(model), Spy():
            model(**unet_inputs())
        assert _len_torch_function_stack() == 1
        before = len(outer.calls)
        with no_grad():
            unet()(**unet_inputs())
        assert len(outer.calls) > before


@no_grad()
def test_two_captures_of_one_layer_both_see_it():
    model = unet()
    with capture(model) as outer, capture(model) as inner:
        model(**unet_inputs())
        assert _len_torch_function_stack() == 0
    assert torch.equal(outer[-1].q, inner[-1].q)


def test_two_threads_do_not_disturb_each_other():
    models = {"unet": (unet(), unet_inputs()), "sd3": (seeded(tiny.sd3), sd3_inputs(8, 12))}
    grids, errors = {}, []

    def work(name):
        model, inputs = models[name]
        try:
            with no_grad(), capture(model, "all", keep=None) as maps:
                for _ in range(10):
                    model(**inputs)
            grids[name] = [(record.module, record.grid) for record in maps]
        except Exception as error:
            errors.append(error)

    alone = {}
    for name in models:
        work(name)
        alone[name] = grids.pop(name)
    threads = [threading.Thread(target=work, args=(name,)) for name in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert grids == alone


SILENT = {
    "attention slicing": lambda model: model.set_attention_slice("max"),
    "default processor": lambda model: model.set_default_attn_processor(),
    "plain processor": lambda model: model.set_attn_processor(AttnProcessor()),
}


@no_grad()
@pytest.mark.parametrize("silence", SILENT)
def test_attention_that_is_computed_elsewhere_is_an_error_with_advice(silence):
    model = unet()
    SILENT[silence](model)
    advice = r"ran with \w*AttnProcessor, which did not call .*Undo attention slicing .*AttnProcessor2_0"
    with pytest.raises(CaptureError, match=advice), capture(model):
        model(**unet_inputs())


@no_grad()
def test_one_unseen_layer_among_seen_ones_is_an_error():
    model = unet()
    model.get_submodule(SD_MIDDLE).set_processor(AttnProcessor())
    with pytest.raises(CaptureError, match=f"attention was not seen: {SD_MIDDLE} ran"), capture(model, "all"):
        model(**unet_inputs())


def test_a_model_that_did_not_run_is_an_error():
    with pytest.raises(CaptureError, match="was not seen to run"), capture(unet()):
        pass


@pytest.mark.extended
@no_grad()
@pytest.mark.parametrize(
    ("before", "backend"),
    [
        (True, "aot_eager"),
        (False, "eager"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((True, "eager"), (False, "aot_eager"))),
    ],
)
def test_a_compiled_model_is_seen(before, backend):
    """However often capture is put on and taken off."""
    torch._dynamo.reset()
    model, inputs = seeded(tiny.dit), (torch.randn(1, 4, 16, 16), torch.tensor([3]), torch.tensor([1]))
    with capture(model) as maps:
        expected = model(*inputs).sample
    compiled = torch.compile(model, backend=backend)
    if before:
        torch.testing.assert_close(compiled(*inputs).sample, expected)
    for _ in range(3):
        with capture(compiled) as seen:
            torch.testing.assert_close(compiled(*inputs).sample, expected)
        torch.testing.assert_close(seen[-1].maps(), maps[-1].maps())
        assert seen[-1].grid == (8, 8)
    torch.testing.assert_close(compiled(*inputs).sample, expected)
    assert "forward" not in vars(model.get_submodule(seen.layers[0]))


@no_grad()
def test_a_graph_that_may_not_break_is_refused_by_torch():
    torch._dynamo.reset()
    model, inputs = seeded(tiny.dit), (torch.randn(1, 4, 16, 16), torch.tensor([3]), torch.tensor([1]))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    compiled(*inputs)
    with pytest.raises(torch._dynamo.exc.Unsupported), capture(compiled):
        compiled(*inputs)


@no_grad()
def test_a_forward_that_another_library_put_on_the_layer_stays():
    """As accelerate's offloading does."""
    model, inputs = seeded(tiny.dit), (torch.randn(1, 4, 16, 16), torch.tensor([3]), torch.tensor([1]))
    with capture(model) as maps:
        model(*inputs)
    layer = model.get_submodule(maps.layers[0])
    layer.forward = theirs = partial(type(layer).forward, layer)
    with capture(model) as seen:
        model(*inputs)
        assert layer.forward is theirs
    assert layer.forward is theirs and torch.equal(seen[-1].q, maps[-1].q)
    del layer.forward
    with capture(model):
        layer.forward = theirs
        model(*inputs)
    assert layer.forward is theirs


def test_the_package_exports_what_it_documents():
    package = importlib.import_module("tokenrank_guidance.capture")  # the attribute is the function
    assert set(package.__all__) == {
        *("AttentionRecord", "AttentionTap", "Capture", "capture", "Gradients", "attention_gradients"),
        *("GradientRecord", "is_unwatched", "unwatched"),
    }
