import copy
from dataclasses import dataclass

import pytest
import timm
import torch
import transformers as t
from torch import nn
from torch.utils._pytree import tree_leaves
from torchvision.models import VisionTransformer as TorchvisionTransformer

from tests import tiny_vits as tiny
from tests.capture.helpers import hook_counts
from tests.tiny_vits import VITS, build, inputs
from tokenrank_guidance.capture import AttentionTap, capture
from tokenrank_guidance.errors import CaptureError, UnsupportedError

pytestmark = pytest.mark.usefixtures("no_gradients")
WIDE = (24, 40)
FIXED = ("siglip_classifier",)  # takes no interpolate_pos_encoding
TIMM = [name for name in VITS if name.startswith("timm")]
TRANSFORMERS = [name for name in VITS if name not in TIMM]


@dataclass(frozen=True)
class Special:
    """Parameters that become tokens before the patches, in order."""

    cls: str | None = None
    registers: str | None = None
    other: str | None = None
    count: int = 0


DINOV2 = Special("cls_token", "register_tokens", count=3)
SPECIAL = {
    "vit": Special("cls_token"),
    "vit_classifier": Special("cls_token"),
    "deit": Special("cls_token", other="distillation_token"),
    "dinov2": Special("cls_token"),
    "dinov2_registers": DINOV2,
    "dinov3": Special("cls_token", "register_tokens", count=4),
    "clip": Special("class_embedding"),
    "clip_vision": Special("class_embedding"),
    "siglip": Special(),
    "siglip_vision": Special(),
    "siglip_classifier": Special(),
    "siglip2": Special(),
    "timm_vit": Special("cls_token"),
    "timm_deit": Special("cls_token", other="dist_token"),
    "timm_dinov2": Special("cls_token", "reg_token", count=4),
    "timm_clip": Special("cls_token"),
    "timm_siglip": Special(),
    "timm_eva02": Special("cls_token"),
    "timm_dinov3": Special("cls_token", "reg_token", count=4),
}


def wide(name):
    return inputs(name, (32, 32) if name in FIXED else WIDE)


def records(model, given, layers="all"):
    with capture(model, layers) as maps:
        model(**given)
    return list(maps)


def own_maps(name, model, given):
    """Each block's attention as the model itself computes it without torch's fused function."""
    eager = copy.deepcopy(model)
    if name in TRANSFORMERS:
        eager.set_attn_implementation("eager")
        output = eager(**given, output_attentions=True)
        return getattr(output, "vision_model_output", output).attentions
    maps = []
    for block in eager.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda module, args: maps.append(args[0]))
    eager(**given)
    return maps


@pytest.mark.parametrize("name", VITS)
def test_the_maps_are_the_models_own(name):
    model, given = build(name), wide(name)
    captured, own = records(model, given), own_maps(name, model, given)
    assert len(captured) == len(own) == tiny.BLOCKS
    for record, expected in zip(captured, own, strict=True):
        assert record.batch == 2
        torch.testing.assert_close(record.maps(), expected, rtol=1e-4, atol=1e-6)
        assert record.maps().std() > 0.05  # uniform maps would prove nothing


@pytest.mark.parametrize("layers", ["auto", "all"])
@pytest.mark.parametrize("name", VITS)
def test_no_bit_of_the_output_changes_and_no_hook_stays(name, layers):
    model, given = build(name), inputs(name)
    before = hook_counts(model)
    expected = [leaf for leaf in tree_leaves(model(**given)) if isinstance(leaf, torch.Tensor)]
    with capture(model, layers):
        output = [leaf for leaf in tree_leaves(model(**given)) if isinstance(leaf, torch.Tensor)]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(output, expected, strict=True))
    assert hook_counts(model) == before


def changed_tokens(model, given, change):
    """Which tokens of the first layer are others after `change`: blocks have mixed nothing yet."""
    [before] = records(model, given, 0)
    change()
    [after] = records(model, given, 0)
    differs = (before.q != after.q).flatten(0, 1).any(-1).any(0)
    return before, differs.nonzero().flatten().tolist()


@pytest.mark.parametrize("name", VITS)
def test_the_image_spans_the_patches_row_by_row(name):
    model, given = build(name), wide(name)
    row, column = 2, 1

    def change():
        if name == "siglip2":
            given["pixel_values"][:, row * 5 + column] += 1
        else:
            y, x = row * tiny.PATCH, column * tiny.PATCH
            next(iter(given.values()))[:, :, y : y + tiny.PATCH, x : x + tiny.PATCH] += 1

    record, tokens = changed_tokens(model, given, change)
    assert record.grid == ((4, 4) if name in FIXED else (3, 5))
    height, width = record.grid
    assert len(range(*record.image.indices(record.tokens))) == height * width
    assert tokens == [record.image.start + row * width + column]
    assert record.text is None


def shift(model, name):
    [parameter] = [p for n, p in model.named_parameters() if n.rpartition(".")[2] == name and "text" not in n]
    parameter += torch.linspace(-1, 1, parameter.shape[-1])  # a constant would not survive the norm


@pytest.mark.parametrize("name", VITS)
def test_class_and_register_tokens_are_where_the_record_says(name):
    special = SPECIAL[name]
    for parameter in filter(None, (special.cls, special.registers, special.other)):
        model = build(name)
        record, tokens = changed_tokens(model, wide(name), lambda p=parameter, m=model: shift(m, p))
        if parameter == special.cls:
            assert tokens == [record.class_token]
        elif parameter == special.registers:
            assert tokens == list(range(*record.registers.indices(record.tokens)))
            assert len(tokens) == special.count
        else:
            assert tokens == [record.image.start - 1]
    [record] = records(build(name), wide(name), 0)
    assert (record.class_token is None) == (special.cls is None)
    assert (record.registers is None) == (special.registers is None)


@pytest.mark.parametrize("name", ["vit", "deit", "dinov3", "clip", "siglip2", "timm_dinov2", "timm_eva02"])
def test_restricting_is_exact_whatever_is_dropped(name):
    [record] = records(build(name), wide(name), 1)
    image = list(range(*record.image.indices(record.tokens)))
    for tokens, kept in {"image": image, "class+image": [0, *image]}.items():
        if tokens == "class+image" and record.class_token is None:
            with pytest.raises(ValueError, match=r"has no 'class\+image' tokens"):
                record.restrict(tokens)
            continue
        block = record.maps()[:, :, kept][..., kept]
        part = record.restrict(tokens)
        torch.testing.assert_close(part.maps(), block / block.sum(-1, keepdim=True))
        torch.testing.assert_close(record.transition(tokens).to_dense(), part.maps())
        assert part.grid == (3, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["vit", "dinov3", "clip", "timm_vit", "timm_eva02"])
def test_half_precision_is_kept_as_it_is_and_mapped_in_float32(name, dtype):
    model, given = build(name).to(dtype), wide(name)
    given = {k: v.to(dtype) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in given.items()}
    [record] = records(model, given, 0)
    assert record.q.dtype == dtype
    own = own_maps(name, model, given)[0]
    torch.testing.assert_close(record.maps(), own.float(), rtol=0.1, atol=0.02)
    torch.testing.assert_close(record.maps().sum(-1), torch.ones(2, 2, record.tokens))


@pytest.mark.parametrize("name", VITS)
def test_the_default_layer_is_the_last_block_but_one(name):
    model = build(name)
    every = AttentionTap(model, "all").layers
    assert len(every) == tiny.BLOCKS
    assert AttentionTap(model).layers == AttentionTap(model, -2).layers == every[1:2]
    assert AttentionTap(model, [every[2], 0]).layers == (every[2], every[0])


def test_one_block_is_its_own_default():
    assert AttentionTap(tiny.timm_vit("vit_tiny_patch16_224", depth=1)).layers == ("blocks.0.attn",)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vit_classifier", "vit.layers.1.attention"),
        ("clip", "vision_model.encoder.layers.1.self_attn"),
        ("timm_vit", "blocks.1.attn"),
    ],
)
def test_names_are_those_of_the_model_given(name, layer):
    model = build(name)
    assert model.get_submodule(layer) is not None
    assert [record.module for record in records(model, inputs(name), "auto")] == [layer]


def test_two_towers_offer_the_vision_tower_alone():
    model = build("clip")
    text = "text_model.encoder.layers.0.self_attn"
    assert isinstance(model.get_submodule(text), nn.Module)
    with pytest.raises(ValueError, match=r"is not an attention layer.*Closest: vision_model"):
        AttentionTap(model, text)


def test_the_image_features_of_clip_alone_are_seen_too():
    model, given = build("clip"), inputs("clip")
    with capture(model) as maps:
        model.get_image_features(pixel_values=given["pixel_values"])
    assert (maps[-1].grid, maps[-1].class_token) == ((4, 4), 0)


@pytest.mark.parametrize(
    ("model", "size", "grid"),
    [
        (lambda: t.ViTModel(t.ViTConfig(**{**tiny.COMMON, "image_size": (24, 40)})), (24, 40), (3, 5)),
        (VITS["dinov2"], (37, 30), (4, 3)),
        (VITS["dinov3"], (37, 30), (4, 3)),
        (lambda: tiny.timm_vit("vit_tiny_patch16_224", img_size=(24, 40)), (24, 40), (3, 5)),
        (
            lambda: tiny.timm_vit("vit_tiny_patch16_224", dynamic_img_size=True, dynamic_img_pad=True),
            (37, 30),
            (5, 4),
        ),
        (
            lambda: tiny.timm_vit("eva02_tiny_patch14_224", dynamic_img_size=True, dynamic_img_pad=True),
            (37, 30),
            (5, 4),
        ),
    ],
)
def test_the_grid_is_that_of_the_picture_given(model, size, grid):
    network = model().eval()
    with capture(network) as maps:
        network(torch.randn(1, 3, *size))
    assert maps[-1].grid == grid
    assert maps[-1].tokens == maps[-1].image.start + grid[0] * grid[1]


def test_timm_features_without_a_head_are_seen_too():
    model = build("timm_vit")
    with capture(model) as maps:
        model.forward_features(inputs("timm_vit")["x"])
    assert maps[-1].grid == (4, 4)


def test_parallel_attention_in_a_block_is_found_by_name():
    model = tiny.timm_vit("vit_small_patch16_18x2_224").eval()
    names = AttentionTap(model, "all").layers
    assert names[:2] == ("blocks.0.attns.0.attn", "blocks.0.attns.1.attn")


def test_siglip2_pictures_of_several_shapes_have_no_grid():
    model, given = build("siglip2"), inputs("siglip2", (24, 40))
    given["spatial_shapes"] = torch.tensor([(3, 5), (5, 3)])
    [record] = records(model, given, "auto")
    assert (record.grid, record.image) == (None, slice(0, 17))


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2_registers", "dinov3", "clip", "siglip", "siglip2"])
def test_eager_attention_is_an_error_that_names_the_remedy(name):
    model = build(name)
    model.set_attn_implementation("eager")
    remedy = r"ran with \w+Attention, which did not call .*set_attn_implementation\('sdpa'\)"
    with pytest.raises(CaptureError, match=remedy), capture(model):
        model(**inputs(name))
    model.set_attn_implementation("sdpa")
    assert len(records(model, inputs(name), "auto")) == 1


@pytest.mark.parametrize("name", TIMM)
def test_plain_attention_of_timm_is_an_error_that_names_the_remedy(name):
    timm.layers.set_fused_attn(False)
    try:
        model = build(name)
    finally:
        timm.layers.set_fused_attn(True)
    with pytest.raises(CaptureError, match=r"timm\.layers\.set_fused_attn\(True\)"), capture(model):
        model(**inputs(name))


def test_dropped_patches_are_an_error_with_the_shapes():
    model = tiny.timm_vit("vit_tiny_patch16_224", patch_drop_rate=0.5).train()
    with pytest.raises(CaptureError, match=r"another size .*expected 17 tokens"), capture(model):
        model(**inputs("timm_vit"))


@pytest.mark.parametrize(
    "model",
    [
        lambda: timm.create_model("swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1, 1, 1)),
        lambda: t.SwinModel(t.SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2])),
        lambda: TorchvisionTransformer(32, 8, 1, 2, 32, 64),
        lambda: t.CLIPTextModel(tiny.clip_config()),
    ],
)
def test_a_model_without_a_known_layout_is_refused(model):
    with pytest.raises(
        UnsupportedError,
        match=r"where its tokens are is not known here; known: .*transformers\.CLIPModel.*timm\.Eva",
    ):
        AttentionTap(model())


def test_a_part_without_patches_is_refused():
    with pytest.raises(UnsupportedError, match=r"no embeddings.patch_embeddings.*give the whole model"):
        AttentionTap(build("dinov2").dinov2.encoder)
