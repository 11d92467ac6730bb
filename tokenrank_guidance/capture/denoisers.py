"""The denoisers of diffusers that attend to text apart: where each keeps its self-attention and its grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tokenrank_guidance.capture.layout import ForwardPass, Grid, Layout, TokenSpans

ADVICE = (
    "Undo attention slicing or set_default_attn_processor() with "
    "model.set_attn_processor(AttnProcessor2_0()); leave flex, xformers and similar backends with "
    "model.set_attention_backend('native')"
)


def processed(*order: str) -> Callable[[nn.Module], dict[str, bool]]:
    """Finds the layers that take a processor, sorted by the prefixes of module names in `order`, if any."""

    def place(name: str) -> int:
        places = [i for i, prefix in enumerate(order) if name.startswith(f"{prefix}.")]
        return places[0] if places else len(order)

    def find(model: nn.Module) -> dict[str, bool]:
        # diffusers marks cross-attention on the module; equal numbers of queries and keys prove nothing,
        # since 64 text tokens meet 64 pixels.
        named = [(name, module) for name, module in model.named_modules() if hasattr(module, "set_processor")]
        found = {name: _is_self(module) for name, module in named}
        return dict(sorted(found.items(), key=lambda item: place(item[0])))

    return find


def _is_self(module: Any) -> bool:
    """Layers with `added_kv_proj_dim` attend to the prompt's keys beside their own: both are in one map."""
    if not getattr(module, "is_cross_attention", False):
        return True
    return module.added_kv_proj_dim is not None and not module.only_cross_attention


def _unet_auto(names: Sequence[str]) -> str:
    """Self-Attention Guidance's layer, the middle's first; without one, the deepest."""
    middle = [name for name in names if name.startswith("mid_block.")]
    down = [name for name in names if name.startswith("down_blocks.")]
    return [*middle, *reversed(down), *names][0]


def _unet_source(model: nn.Module, layer: str) -> str:
    # The enclosing Transformer2DModel, or the layer itself in UNet2DModel: both are given (B, C, h, w). Read
    # there, because the way down rounds odd sizes up or down as `downsample_padding` has it.
    return layer.partition(".transformer_blocks.")[0]


def _unet_spans(call: ForwardPass) -> TokenSpans:
    height, width = call.inputs["hidden_states"].shape[-2:]
    spans = image_only((height, width))
    if getattr(call.source, "added_kv_proj_dim", None) is None:
        return spans
    prompt = call.inputs.get("encoder_hidden_states")
    return replace(spans, prompt_keys=spans.total if prompt is None else prompt.shape[1])


def middle_block(names: Sequence[str]) -> str:
    """The middle of the first stack; in SD3 the joint layers, in FLUX the double blocks."""
    stack = names[0].partition(".")[0]
    leaf = names[0].rpartition(".")[2]
    same = [name for name in names if name.startswith(f"{stack}.") and name.endswith(f".{leaf}")]
    return same[len(same) // 2]


def whole_model(model: nn.Module, layer: str) -> str:
    return ""


def _patch_spans(call: ForwardPass) -> TokenSpans:
    return image_only(patch_grid(call.model, call.inputs))


def _visual_layers(model: nn.Module) -> dict[str, bool]:
    """Kandinsky 5 marks cross-attention by the name alone; its other blocks see the text."""
    found = processed()(model)
    return {name: name.endswith(".self_attention") for name in found if name.startswith("visual_")}


def _frame_spans(call: ForwardPass) -> TokenSpans:
    frames, height, width = call.inputs["hidden_states"].shape[1:4]
    config: Any = call.model.config
    grid = height // config.patch_size[1], width // config.patch_size[2]
    if frames == 1:
        return image_only(grid)
    total = frames // config.patch_size[0] * grid[0] * grid[1]
    return TokenSpans(total, None, slice(0, total))


def patch_grid(model: nn.Module, inputs: Mapping[str, Any]) -> Grid:
    height, width = inputs["hidden_states"].shape[-2:]
    config: Any = model.config
    return height // config.patch_size, width // config.patch_size


def image_only(grid: Grid) -> TokenSpans:
    total = grid[0] * grid[1]
    return TokenSpans(total, grid, slice(0, total))


UNET = Layout(
    models=("UNet2DConditionModel", "UNet2DModel"),
    attention=processed("down_blocks", "mid_block", "up_blocks"),
    auto=_unet_auto,
    source=_unet_source,
    spans=_unet_spans,
    advice=ADVICE,
)
PATCHES = Layout(
    models=(
        "DiTTransformer2DModel",
        "PixArtTransformer2DModel",
        "HunyuanDiT2DModel",
        "LuminaNextDiT2DModel",
    ),
    attention=processed(),
    auto=middle_block,
    source=whole_model,
    spans=_patch_spans,
    advice=ADVICE,
)
KANDINSKY5 = Layout(
    models=("Kandinsky5Transformer3DModel",),
    attention=_visual_layers,
    auto=middle_block,
    source=whole_model,
    spans=_frame_spans,
    advice=ADVICE,
)
DENOISERS = (UNET, PATCHES, KANDINSKY5)
