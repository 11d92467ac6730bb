"""Vision transformers of transformers and timm: where their class, register and patch tokens are.

Each is a row of blocks over [class token, registers, others, patches]. The grid is what the patch convolution
makes of the picture it is given, so sizes, padding and resampled positions need no rule of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans

TRANSFORMERS_ADVICE = "Call model.set_attn_implementation('sdpa'), which shows every map"
TIMM_ADVICE = (
    "timm chooses when a model is built: call timm.layers.set_fused_attn(True) before timm.create_model(), "
    "or set fused_attn = True on the attention modules of this one"
)
LEAVES = ("attn", "attention", "self_attn")


@dataclass(frozen=True)
class Prefix:
    """Tokens before the patches, in this order; `others` counts such as DeiT's distillation token."""

    class_token: int = 1
    registers: int = 0
    others: int = 0


def _in_blocks(model: nn.Module) -> dict[str, bool]:
    """The attention of each numbered block outside a text tower; pooling heads are no block."""
    return {name: True for name in _vision_modules(model) if _is_block_attention(name)}


def _vision_modules(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if not name.startswith("text_model.")]


def _is_block_attention(name: str) -> bool:
    block, _, leaf = name.rpartition(".")
    return leaf in LEAVES and block.rpartition(".")[2].isdigit()


def _last_but_one(names: Sequence[str]) -> str:
    """Late layers rank the tokens best in masking ablations; of twelve blocks this is the eleventh."""
    return names[max(len(names) - 2, 0)]


def _module(path: str, model: nn.Module, layer: str) -> str:
    """Name of the module at `path`, wherever in `model` the vision tower is."""
    for name in _vision_modules(model):
        if f".{name}".endswith(f".{path}"):
            return name
    raise UnsupportedError(f"{type(model).__name__} has no {path}: give the whole model, not a part of it")


def _spans(prefix: Callable[[nn.Module], Prefix], call: ForwardPass) -> TokenSpans:
    before = prefix(call.model)
    height, width = grid = _convolved(call.source, call.inputs["input"].shape[-2:])
    registers = slice(before.class_token, before.class_token + before.registers)
    start = registers.stop + before.others
    total = start + height * width
    return TokenSpans(
        total,
        grid,
        slice(start, total),
        class_token=0 if before.class_token else None,
        registers=registers if before.registers else None,
    )


def _convolved(patches: Any, size: Sequence[int]) -> Grid:
    """(h, w) of what the patch convolution makes of a picture of `size`; a named padding is "valid"."""
    padding = (0, 0) if isinstance(patches.padding, str) else patches.padding
    sides = zip(size, padding, patches.kernel_size, patches.stride, strict=True)
    height, width = ((side + 2 * pad - kernel) // stride + 1 for side, pad, kernel, stride in sides)
    return height, width


def _siglip2_spans(call: ForwardPass) -> TokenSpans:
    """SigLIP 2 is given patches, padded at the end; pictures of unequal shapes have no common grid."""
    total = call.inputs["pixel_values"].shape[1]
    shapes = call.inputs["spatial_shapes"]
    if (shapes != shapes[:1]).any():
        return TokenSpans(total, None, slice(0, total))
    height, width = shapes[0].tolist()
    return TokenSpans(total, (height, width), slice(0, height * width))


def _class_only(model: nn.Module) -> Prefix:
    return Prefix()


def _distilled(model: nn.Module) -> Prefix:
    return Prefix(others=1)


def _no_prefix(model: nn.Module) -> Prefix:
    return Prefix(class_token=0)


def _registered(model: nn.Module) -> Prefix:
    config: Any = model.config
    return Prefix(registers=config.num_register_tokens)


def _timm_prefix(model: Any) -> Prefix:
    has_class = int(model.cls_token is not None)
    registers = 0 if model.reg_token is None else model.reg_token.shape[1]
    return Prefix(has_class, registers, model.num_prefix_tokens - has_class - registers)


def _tokens(source: str, spans: Callable[[ForwardPass], TokenSpans], advice: str) -> Tokens:
    return Tokens(spans, _in_blocks, _last_but_one, partial(_module, source), advice)


def _vit(models: Sequence[str], patches: str, prefix: Callable[[nn.Module], Prefix]) -> Family:
    """A family of transformers whose patch convolution is called `patches`."""
    tokens = _tokens(patches, partial(_spans, prefix), TRANSFORMERS_ADVICE)
    return Family(tuple(models), tokens, package="transformers")


def _towers(name: str) -> list[str]:
    return [f"{name}Model", f"{name}VisionModel", f"{name}ForImageClassification"]


PROJECTION = "embeddings.patch_embeddings.projection"
FAMILIES = (
    _vit(["ViTPreTrainedModel", "Dinov2PreTrainedModel"], PROJECTION, _class_only),
    _vit(["DeiTPreTrainedModel"], PROJECTION, _distilled),
    _vit(["Dinov2WithRegistersPreTrainedModel"], PROJECTION, _registered),
    _vit(["DINOv3ViTPreTrainedModel"], "embeddings.patch_embeddings", _registered),
    _vit([*_towers("CLIP"), "CLIPVisionModelWithProjection"], "embeddings.patch_embedding", _class_only),
    _vit(_towers("Siglip"), "embeddings.patch_embedding", _no_prefix),
    Family(
        models=tuple(_towers("Siglip2")),
        tokens=_tokens("embeddings", _siglip2_spans, TRANSFORMERS_ADVICE),
        package="transformers",
    ),
    Family(
        models=("VisionTransformer", "Eva"),
        tokens=_tokens("patch_embed.proj", partial(_spans, _timm_prefix), TIMM_ADVICE),
        package="timm",
    ),
)
