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


def vit_record(**changes):
    """Of a class token, two registers, one other token and a grid of (2, 3)."""
    return record(**{"text": None, "class_token": 0, "registers": slice(1, 3), **changes})


@pytest.mark.parametrize("mask", [None, (10, 10), (1, 10), (3, 1, 1, 10), (3, 2, 10, 10), (10,)])
def test_class_and_image_are_a_softmax_over_their_keys_alone(mask):
    r = vit_record(mask=None if mask is None else randn(mask, generator=torch.Generator().manual_seed(2)))
    kept = [0, 4, 5, 6, 7, 8, 9]
    block = r.maps()[:, :, kept][..., kept]
    part = r.restrict("class+image")
    torch.testing.assert_close(part.maps(), block / block.sum(-1, keepdim=True))
    torch.testing.assert_close(r.transition("class+image").to_dense(), part.maps())
    assert (part.class_token, part.image, part.registers) == (0, slice(1, None), None)
    assert (part.grid, part.module, part.tokens) == ((2, 3), "m", 7)


def test_what_is_restricted_twice_is_restricted_once():
    both = vit_record().restrict("class+image")
    torch.testing.assert_close(both.restrict("class+image").maps(), both.maps(), rtol=0, atol=0)
    torch.testing.assert_close(both.restrict("image").maps(), vit_record().restrict("image").maps())
    image = both.restrict("image")
    assert (image.class_token, image.registers) == (None, None)
    with pytest.raises(ValueError, match=r"m has no 'class\+image' tokens: use 'all' or 'image'"):
        image.restrict("class+image")


def test_a_class_token_after_the_image_comes_first_when_restricted():
    r = vit_record(image=slice(0, 6), class_token=9, registers=None)
    torch.testing.assert_close(r.restrict("class+image").q, r.q[:, :, [9, 0, 1, 2, 3, 4, 5]])


def test_part_of_the_batch_knows_its_class_and_registers():
    part = vit_record().select(1)
    assert (part.class_token, part.registers) == (0, slice(1, 3))


@pytest.mark.parametrize("index", [-1, 10])
def test_a_class_token_outside_the_record_is_an_error(index):
    with pytest.raises(ValueError, match=rf"class token at {index} is outside the 10 tokens"):
        vit_record(class_token=index)


def test_shapes_that_contradict_each_other_are_an_error():
    with pytest.raises(ValueError, match=r"got \(3, 2, 10, 4\) and \(3, 2, 9, 4\)"):
        record(k=record().k[:, :, 1:])
    with pytest.raises(ValueError, match=r"grid of \(3, 3\) does not hold 6"):
        record(grid=(3, 3))
