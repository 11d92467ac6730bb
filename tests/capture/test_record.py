import pytest
import torch
from torch import randn, softmax

from tokenrank_guidance.capture import AttentionRecord


def record(**changes):
    g = torch.Generator().manual_seed(0)
    q, k = randn(3, 2, 10, 4, generator=g), randn(3, 2, 10, 4, generator=g)
    fields = {"q": q, "k": k, "scale": 0.5, "module": "m", "grid": (2, 3)}
    return AttentionRecord(**{**fields, "image": slice(4, 10), "text": slice(0, 4), **changes})


def logits(r):
    return torch.einsum("bhnd,bhmd->bhnm", r.q, r.k) * r.scale


def test_maps_are_the_softmax_of_the_scaled_products():
    r = record()
    torch.testing.assert_close(r.maps(), softmax(logits(r), -1))
    assert (r.batch, r.heads, r.tokens) == (3, 2, 10)


def test_a_boolean_mask_forbids_and_a_float_mask_adds():
    allowed = torch.ones(10, 10).tril().bool()
    added = torch.zeros(10, 10).masked_fill(~allowed, -torch.inf)
    maps = record(mask=allowed).maps()
    torch.testing.assert_close(maps, record(mask=added).maps())
    assert (maps[..., ~allowed] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_maps_of_half_precision_are_float32_under_autocast_too(dtype):
    full = record()
    half = record(q=full.q.to(dtype), k=full.k.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = half.maps()
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, half.maps(), rtol=0, atol=0)


def test_maps_of_double_precision_stay_double():
    r = record()
    assert record(q=r.q.double(), k=r.k.double()).maps().dtype == torch.float64


def test_the_image_chain_is_a_softmax_over_image_keys_alone():
    r = record()
    expected = softmax(logits(r)[..., 4:, 4:], -1)
    torch.testing.assert_close(r.transition("image").to_dense(), expected)
    block = r.maps()[..., 4:, 4:]
    torch.testing.assert_close(expected, block / block.sum(-1, keepdim=True))


def test_the_whole_chain_is_the_default():
    r = record()
    torch.testing.assert_close(r.transition().to_dense(), r.maps())


def test_a_restricted_record_knows_what_it_holds():
    image, text = record().restrict("image"), record().restrict("text")
    assert (image.tokens, image.grid, image.text) == (6, (2, 3), None)
    assert (text.tokens, text.grid) == (4, None)
    assert image.restrict("image").tokens == 6


@pytest.mark.parametrize("shape", [(10, 10), (1, 10), (3, 1, 1, 10), (3, 2, 10, 10), (10,)])
def test_restricting_and_selecting_cut_any_broadcastable_mask(shape):
    g = torch.Generator().manual_seed(2)
    r = record(mask=randn(shape, generator=g))
    full = (logits(r) + r.mask)[1:2, :, 4:, 4:]
    torch.testing.assert_close(r.select(1).restrict("image").maps(), softmax(full, -1))


def test_select_takes_part_of_the_batch():
    r = record()
    torch.testing.assert_close(r.select(slice(0, 2)).maps(), r.maps()[:2])
    torch.testing.assert_close(r.select(-1).maps(), r.maps()[2:])
    with pytest.raises(IndexError):
        r.select(3)


def test_text_tokens_that_do_not_exist_are_an_error():
    with pytest.raises(ValueError, match="no 'text' tokens"):
        record(text=None).transition("text")


def test_shapes_that_contradict_each_other_are_an_error():
    with pytest.raises(ValueError, match=r"got \(3, 2, 10, 4\) and \(3, 2, 9, 4\)"):
        record(k=record().k[:, :, 1:])
    with pytest.raises(ValueError, match=r"grid of \(3, 3\) does not hold 6"):
        record(grid=(3, 3))
