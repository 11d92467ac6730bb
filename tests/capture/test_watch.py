import pytest
import torch
from torch import randn, softmax
from torch.nn.functional import scaled_dot_product_attention as attend
from torch.overrides import _len_torch_function_stack

from tests.capture.helpers import Spy
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.capture.watch import Watch, read_call
from tokenrank_guidance.families.tokens import TokenSpans

SPANS = TokenSpans(total=6, grid=(2, 3), image=slice(0, 6))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"enable_gqa": True},
        {"attn_mask": torch.ones(6, 6).tril().bool()},
        {"attn_mask": torch.linspace(-1, 1, 36).reshape(6, 6)},
    ],
)
def test_a_call_is_read_as_torch_reads_it(options):
    g = torch.Generator().manual_seed(0)
    heads = 2 if "enable_gqa" in options else 4
    q, k, v = (randn(2, n, 6, 8, generator=g) for n in (4, heads, heads))
    call = read_call(q, k, v, **options)
    maps = AttentionRecord(call.q, call.k, call.scale, call.mask).maps()
    torch.testing.assert_close(maps @ v.repeat_interleave(4 // heads, 1), attend(q, k, v, **options))


def test_positional_arguments_are_read_too():
    q, mask = randn(1, 1, 6, 4), torch.ones(6, 6).tril().bool()
    call = read_call(q, q, q, mask, 0.0, False)
    logits = (q @ q.mT / 2).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(
        AttentionRecord(call.q, call.k, call.scale, call.mask).maps(), softmax(logits, -1)
    )


def watch():
    w = Watch()
    w.spans["layer"] = SPANS
    return w


def test_a_watch_sees_only_between_entering_and_leaving():
    w, x = watch(), randn(1, 2, 6, 4)
    w.enter("layer")
    attend(x, x, x)
    record = w.leave(detach=True)
    assert record is not None
    assert (record.module, record.grid, record.image) == ("layer", (2, 3), slice(0, 6))
    assert w.leave(detach=True) is None


def seen(spans, q, k, mask):
    w = Watch()
    w.spans["layer"] = spans
    w.enter("layer")
    attend(q, k, k, attn_mask=mask)
    record = w.leave(detach=True)
    assert record is not None
    return record


@pytest.mark.parametrize("shape", [None, (6, 9), (2, 1, 1, 9), (2, 3, 6, 9), (2, 1, 6, 1)])
def test_keys_of_a_prompt_are_left_out_with_their_part_of_the_mask(shape):
    q, k = randn(2, 3, 6, 4), randn(2, 3, 9, 4)
    mask = None if shape is None else randn(shape)
    spans = TokenSpans(total=6, grid=(2, 3), image=slice(0, 6), prompt_keys=3)
    whole = softmax(q @ k.mT / 2 + (0 if mask is None else mask), -1)
    own = whole[..., 3:] / whole[..., 3:].sum(-1, keepdim=True)
    torch.testing.assert_close(seen(spans, q, k, mask).maps(), own)


@pytest.mark.parametrize("shape", [None, (6, 6), (2, 1, 1, 6), (2, 3, 6, 6), (3, 6, 6), (2, 1, 6, 1)])
def test_tokens_that_start_elsewhere_in_each_row_are_brought_to_the_front(shape):
    q, k = randn(2, 3, 6, 4), randn(2, 3, 6, 4)
    mask = None if shape is None else randn(shape)
    spans = TokenSpans(total=6, grid=(2, 2), image=slice(0, 4), starts=(2, 1))
    whole = softmax(q @ k.mT / 2 + (0 if mask is None else mask), -1)
    wanted = torch.stack([whole[0].roll((-2, -2), (-2, -1)), whole[1].roll((-1, -1), (-2, -1))])
    torch.testing.assert_close(seen(spans, q, k, mask).maps(), wanted)


def test_keys_of_other_tokens_are_refused():
    w, x = watch(), randn(1, 2, 6, 4)
    w.enter("layer")
    attend(x, x[:, :, :5], x[:, :, :5])
    assert w.leave(detach=True) is None
    assert w.refused == "q (1, 2, 6, 4), k (1, 2, 5, 4), expected 6 tokens"


def test_clearing_takes_the_watch_from_under_other_modes():
    w, below, above = watch(), Spy(), Spy()
    with below:
        w.enter("layer")
        with above:
            w.clear()
            assert _len_torch_function_stack() == 2
            attend(*[randn(1, 1, 2, 2)] * 3)
    assert (len(below.calls), len(above.calls)) == (1, 1)


def test_a_mode_left_in_exchange_for_the_watch_is_cleared():
    w, outer, gone = watch(), Spy(), Spy()
    with outer:
        with gone:
            w.enter("layer")  # and no `leave`: `gone` then pops the watch and stays itself
        with Spy():
            w.clear()
            assert _len_torch_function_stack() == 2
        attend(*[randn(1, 1, 2, 2)] * 3)
    assert (len(outer.calls), len(gone.calls)) == (1, 0)


def test_a_watch_that_is_done_is_cleared_by_the_next_one():
    done, following = watch(), watch()
    done.enter("layer")
    done.layer = None  # as a tap does that another thread detaches
    following.enter("layer")
    assert _len_torch_function_stack() == 1
    following.leave(detach=True)
