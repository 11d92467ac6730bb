"""Tiny, seeded, randomly initialised vision transformers of the real transformers and timm classes.

`build(name)` builds one of `VITS`: hidden size 32, three blocks, two heads, 8x8 patches, made for 32x32
pixels. `inputs(name)` gives what its forward pass takes, for pictures of any size.
"""

from collections.abc import Callable

import timm
import torch
import transformers as t
from torch import nn

from tests.tiny_networks import clip_config

PATCH, SIZE, BLOCKS, CLASSES = 8, 32, 3, 5
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "patch_size": PATCH,
    "image_size": SIZE,
    "num_labels": CLASSES,
}
WITH_TEXT = ("clip", "siglip")
TEXT = {"vocab_size": 99, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
ENDS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
RESAMPLED = ("vit", "vit_classifier", "deit", "clip", "clip_vision", "siglip", "siglip_vision")


def siglip_config() -> t.SiglipConfig:
    text = t.SiglipTextConfig(
        **TEXT, **ENDS, num_hidden_layers=1, max_position_embeddings=16, projection_size=32
    )
    return t.SiglipConfig(text_config=text.to_dict(), vision_config=COMMON)


def siglip2_config() -> t.Siglip2VisionConfig:
    common = {name: value for name, value in COMMON.items() if name != "image_size"}
    return t.Siglip2VisionConfig(**common, num_patches=(SIZE // PATCH) ** 2)


def clip() -> t.CLIPModel:
    text = clip_config(projection=32).to_dict()
    return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=COMMON, projection_dim=32))


def timm_vit(name: str, **options: object) -> nn.Module:
    """timm's model of that name, made small; `options` are timm's own."""
    small = {"embed_dim": 32, "depth": BLOCKS, "num_heads": 2, "patch_size": PATCH, "img_size": SIZE}
    return timm.create_model(name, num_classes=CLASSES, **{**small, **options})


VITS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: t.ViTModel(t.ViTConfig(**COMMON)),
    "vit_classifier": lambda: t.ViTForImageClassification(t.ViTConfig(**COMMON)),
    "deit": lambda: t.DeiTForImageClassification(t.DeiTConfig(**COMMON)),
    "dinov2": lambda: t.Dinov2ForImageClassification(t.Dinov2Config(**COMMON, mlp_ratio=2)),
    "dinov2_registers": lambda: t.Dinov2WithRegistersModel(
        t.Dinov2WithRegistersConfig(**COMMON, mlp_ratio=2, num_register_tokens=3)
    ),
    "dinov3": lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**COMMON, num_register_tokens=4)),
    "clip": clip,
    "clip_vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**COMMON)),
    "siglip": lambda: t.SiglipModel(siglip_config()),
    "siglip_vision": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**COMMON)),
    "siglip_classifier": lambda: t.SiglipForImageClassification(siglip_config()),
    "siglip2": lambda: t.Siglip2VisionModel(siglip2_config()),
    "timm_vit": lambda: timm_vit("vit_tiny_patch16_224", dynamic_img_size=True),
    "timm_deit": lambda: timm_vit("deit_tiny_distilled_patch16_224", dynamic_img_size=True),
    "timm_dinov2": lambda: timm_vit("vit_small_patch14_reg4_dinov2", dynamic_img_size=True),
    "timm_clip": lambda: timm_vit("vit_base_patch32_clip_224", dynamic_img_size=True),
    "timm_siglip": lambda: timm_vit("vit_base_patch16_siglip_224", dynamic_img_size=True),
    "timm_eva02": lambda: timm_vit("eva02_tiny_patch14_224", dynamic_img_size=True),
    "timm_dinov3": lambda: timm_vit("vit_small_patch16_dinov3", dynamic_img_size=True),
}
RANDOM = ("q_proj.weight", "k_proj.weight", "qkv.weight", "token", "tokens", "pos_embed", "embedding")


def build(name: str, seed: int = 0) -> nn.Module:
    """The network in eval mode with attention far from uniform; the global RNG is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VITS[name]().eval()
        roughen(model)
    return model


@torch.no_grad()
def roughen(model: nn.Module) -> None:
    """Draw anew what random initialisation leaves zero or near it: queries, keys, special tokens."""
    for name, parameter in model.named_parameters():
        if name.endswith(RANDOM):
            parameter.normal_(std=0.3)


def inputs(
    name: str, size: tuple[int, int] = (SIZE, SIZE), batch: int = 2, seed: int = 1
) -> dict[str, object]:
    """What the network's forward pass takes for random pictures of `size` = (h, w) pixels."""
    g = torch.Generator().manual_seed(seed)
    if name == "siglip2":
        return _patches(batch, (size[0] // PATCH, size[1] // PATCH), g)
    pictures = torch.randn(batch, 3, *size, generator=g)
    if name.startswith("timm"):
        return {"x": pictures}
    given: dict[str, object] = {"pixel_values": pictures}
    if name in RESAMPLED and size != (SIZE, SIZE):
        given["interpolate_pos_encoding"] = True
    if name in WITH_TEXT:
        given["input_ids"] = torch.randint(4, 90, (batch, 7), generator=g)
    return given


def _patches(batch: int, grid: tuple[int, int], g: torch.Generator) -> dict[str, object]:
    """SigLIP 2 is given rows of patches: two of padding follow here."""
    count = grid[0] * grid[1]
    attended = torch.ones(batch, count + 2, dtype=torch.long)
    attended[:, count:] = 0
    return {
        "pixel_values": torch.randn(batch, count + 2, 3 * PATCH * PATCH, generator=g),
        "pixel_attention_mask": attended,
        "spatial_shapes": torch.tensor([grid] * batch),
    }
