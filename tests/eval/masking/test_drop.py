"""Dropping tokens equals hiding them from attention, on every family that is known."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from eval.masking.drop import check_droppable, dropped_patches
from tests import tiny_vits
from tokenrank_guidance.errors import UnsupportedError

PATCHES = (tiny_vits.SIZE // tiny_vits.PATCH) ** 2
LAST_BLOCK = {
    "vit": "layers.2",
    "vit_classifier": "vit.layers.2",
    "deit": "deit.layers.2",
    "dinov2": "dinov2.encoder.layer.2",
    "dinov2_registers": "encoder.layer.2",
    "dinov3": "model.layer.2",
    "clip_vision": "encoder.layers.2",
    "siglip_vision": "encoder.layers.2",
    "siglip_classifier": "vision_model.encoder.layers.2",
    "timm_vit": "blocks.2",
    "timm_deit": "blocks.2",
    "timm_dinov2": "blocks.2",
    "timm_clip": "blocks.2",
    "timm_siglip": "blocks.2",
    "timm_eva02": "blocks.2",
    "timm_dinov3": "blocks.2",
}
POOLED_OVER_PATCHES = (
    "dinov2",
    "siglip_vision",
    "siglip_classifier",
    "timm_siglip",
    "timm_eva02",
    "timm_dinov3",
)


class HiddenKeys(TorchFunctionMode):
    """Hides the masked patches, which come last, from every query by torch's own attention mask."""

    def __init__(self, masked: torch.Tensor) -> None:
        super().__init__()
        self.masked = masked

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is scaled_dot_product_attention:
            query, key = args[:2] if len(args) > 1 else (kwargs["query"], kwargs["key"])
            if query.shape == key.shape:
                prefix = key.shape[-2] - self.masked.shape[-1]
                seen = torch.nn.functional.pad(~self.masked, (prefix, 0), value=True)
                kwargs["attn_mask"] = seen[:, None, None, :]
        return func(*args, **kwargs)


def random_masks(batch: int, count: int) -> torch.Tensor:
    draws = torch.rand(batch, PATCHES, generator=torch.Generator().manual_seed(3))
    return draws.argsort(-1).argsort(-1) < count


def last_block(model, name, call):
    seen = []
    block = model.get_submodule(LAST_BLOCK[name])
    hook = block.register_forward_hook(
        lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    output = call()
    hook.remove()
    return seen[0], output


def logits(output):
    return getattr(output, "logits", None) if not isinstance(output, torch.Tensor) else output


@pytest.mark.parametrize("count", [1, 6, PATCHES - 1])
@pytest.mark.parametrize("name", LAST_BLOCK)
@torch.no_grad()
def test_equals_an_attention_mask(name, count):
    model, given = tiny_vits.build(name), tiny_vits.inputs(name, batch=3)
    masked = random_masks(3, count)
    with HiddenKeys(masked):
        hidden, expected = last_block(model, name, lambda: model(**given))
    with dropped_patches(model, masked):
        tokens, output = last_block(model, name, lambda: model(**given))
    prefix = hidden.shape[1] - PATCHES
    assert tokens.shape[1] == hidden.shape[1] - count
    torch.testing.assert_close(tokens[:, :prefix], hidden[:, :prefix], rtol=0, atol=1e-5)
    kept = hidden[:, prefix:][~masked].view(3, PATCHES - count, -1)
    torch.testing.assert_close(tokens[:, prefix:], kept, rtol=0, atol=1e-5)
    if logits(output) is not None and name not in POOLED_OVER_PATCHES:
        torch.testing.assert_close(logits(output), logits(expected), rtol=0, atol=1e-5)


@torch.no_grad()
def test_leaves_no_hook_after_an_error():
    model, given = tiny_vits.build("timm_eva02"), tiny_vits.inputs("timm_eva02")
    before = model(**given)
    with pytest.raises(KeyboardInterrupt), dropped_patches(model, random_masks(2, 5)):
        raise KeyboardInterrupt
    assert torch.equal(model(**given), before)


@pytest.mark.parametrize("counts", [(PATCHES, PATCHES), (2, 3)])
def test_refuses_unequal_and_empty_sequences(counts):
    masks = torch.cat([random_masks(1, count) for count in counts])
    dropping = dropped_patches(tiny_vits.build("vit"), masks)
    with pytest.raises(ValueError, match="drop keeps the same number of patches, at least 1"), dropping:
        pass


def test_refuses_models_that_are_not_known():
    with pytest.raises(UnsupportedError, match=r"Linear.*known: ViTModel.*Use the mask zero, mean or blur"):
        check_droppable(torch.nn.Linear(1, 1))
