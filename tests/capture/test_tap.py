import copy

import pytest
import torch
from torch.overrides import _len_torch_function_stack

from tests.capture.helpers import SD_MIDDLE, hook_counts, unet, unet_inputs
from tokenrank_guidance.capture import AttentionTap
from tokenrank_guidance.errors import CaptureError

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_a_forward_hook_can_take_records_and_make_an_extra_pass():
    model, inputs = unet(), unet_inputs()
    tap, batches = AttentionTap(model).attach(), []

    def guide(module, args, kwargs, output):
        if guide.busy:
            return
        guide.busy = True
        [record] = tap.pop()
        batches.append(record.select(slice(0, 1)).batch)
        with tap.paused():
            module(**kwargs)
        guide.busy = False

    guide.busy = False
    handle = model.register_forward_hook(guide, with_kwargs=True)
    for _ in range(3):
        model(**inputs)
    handle.remove()
    tap.detach()
    assert batches == [1, 1, 1]
    assert tap.records == []


def test_attaching_and_detaching_twice_is_harmless():
    model = unet()
    before = hook_counts(model)
    tap = AttentionTap(model)
    tap.attach()
    attached = hook_counts(model)
    assert hook_counts(tap.attach().model) == attached != before
    tap.detach()
    tap.detach()
    assert hook_counts(model) == before
    assert not tap.attached


def test_pop_starts_anew_even_when_it_raises():
    model = unet()
    tap = AttentionTap(model).attach()
    with pytest.raises(CaptureError, match="was not seen to run"):
        tap.pop()
    model(**unet_inputs())
    assert len(tap.pop()) == 1
    with pytest.raises(CaptureError):
        tap.pop()
    tap.detach()


def test_the_next_pass_clears_what_an_interrupt_left():
    model = unet()
    tap = AttentionTap(model).attach()
    layer = model.get_submodule(SD_MIDDLE)
    processor = layer.processor

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    layer.set_processor(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(**unet_inputs())
    assert _len_torch_function_stack() == 1  # torch ran no forward hook
    layer.set_processor(processor)
    model(**unet_inputs())
    assert _len_torch_function_stack() == 0
    assert tap.pop()[0].module == SD_MIDDLE
    tap.detach()


def test_what_runs_after_an_interrupt_is_not_taken_for_the_layer():
    model = unet()
    tap = AttentionTap(model).attach()
    model(**unet_inputs())
    tap.pop()
    layer = model.get_submodule(SD_MIDDLE)
    layer.set_processor(lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        model(**unet_inputs())
    x = torch.randn(1, 2, 64, 8)
    torch.nn.functional.scaled_dot_product_attention(x, x, x)
    assert tap.records == []
    tap.detach()


def test_a_layer_that_raises_is_not_called_unseen():
    model = unet()
    tap = AttentionTap(model).attach()

    def fail(*args, **kwargs):
        raise RuntimeError("boom")

    processor = model.get_submodule(SD_MIDDLE).processor
    model.get_submodule(SD_MIDDLE).set_processor(fail)
    with pytest.raises(RuntimeError, match="boom"):
        model(**unet_inputs())
    model.get_submodule(SD_MIDDLE).set_processor(processor)
    model(**unet_inputs())
    assert len(tap.pop()) == 1
    tap.detach()


def test_an_attention_call_of_another_size_is_refused_with_its_shapes():
    model = unet()
    layer = model.get_submodule(SD_MIDDLE)
    processor = layer.processor

    def merge_tokens(attn, hidden_states, **kwargs):
        half = processor(attn, hidden_states[:, ::2])
        return half.repeat_interleave(2, 1)

    layer.set_processor(merge_tokens)
    tap = AttentionTap(model).attach()
    model(**unet_inputs())
    with pytest.raises(CaptureError, match=r"another size \(q \(2, 2, 32, 16\).*expected 64 tokens"):
        tap.pop()
    tap.detach()


def test_only_the_first_fitting_call_of_a_layer_is_the_map():
    model = unet()
    layer = model.get_submodule(SD_MIDDLE)
    processor = layer.processor

    def twice(attn, hidden_states, **kwargs):
        output = processor(attn, hidden_states)
        processor(attn, hidden_states * 0)
        return output

    layer.set_processor(twice)
    tap = AttentionTap(model).attach()
    model(**unet_inputs())
    [record] = tap.pop()
    assert record.q.abs().sum() > 0
    tap.detach()


def test_an_attached_model_can_be_copied():
    model = unet()
    tap = AttentionTap(model).attach()
    copy.deepcopy(model)(**unet_inputs())
    assert tap.records == []
    tap.detach()


def test_no_activation_is_held_between_passes():
    model = unet()
    tap = AttentionTap(model, reduce=lambda record: record.tokens).attach()
    model(**unet_inputs())
    [watch] = tap._watches.values()
    assert watch.call is None
    assert tap.pop() == [64]
    tap.detach()
