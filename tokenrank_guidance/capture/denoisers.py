"""The denoisers of diffusers: where each family keeps its self-attention and its image and text tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Shaped
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from tokenrank_guidance.capture.layout import ForwardPass, Grid, Layout, TokenSpans

ADVICE = (
    "Undo attention slicing or set_default_attn_processor() with "
    "model.set_attn_processor(AttnProcessor2_0()); leave flex, xformers and similar backends with "
    "model.set_attention_backend('native')"
)


def _processed(*order: str) -> Callable[[nn.Module], dict[str, bool]]:
    """Finds the layers that take a processor, sorted by the prefixes of module names in `order`."""

    def place(name: str) -> int:
        places = [i for i, prefix in enumerate(order) if name.startswith(f"{prefix}.")]
        return places[0] if places else len(order)

    def find(model: nn.Module) -> dict[str, bool]:
        # diffusers marks cross-attention on the module; equal numbers of queries and keys prove nothing,
        # since 64 text tokens meet 64 pixels.
        found = {
            name: not getattr(module, "is_cross_attention", False)
            for name, module in model.named_modules()
            if hasattr(module, "set_processor")
        }
        return dict(sorted(found.items(), key=lambda item: place(item[0])))

    return find


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
    return _image_only((height, width))


def _middle_block(names: Sequence[str]) -> str:
    """The middle of the first stack; in SD3 the joint layers, in FLUX the double blocks."""
    stack = names[0].partition(".")[0]
    leaf = names[0].rpartition(".")[2]
    same = [name for name in names if name.startswith(f"{stack}.") and name.endswith(f".{leaf}")]
    return same[len(same) // 2]


def _model(model: nn.Module, layer: str) -> str:
    return ""


def _patch_spans(call: ForwardPass) -> TokenSpans:
    return _image_only(_patch_grid(call.model, call.inputs))


def _sd3_spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = _patch_grid(call.model, call.inputs)
    if call.layer.endswith(".attn2"):  # SD3.5's second attention of a block
        return _image_only(grid)
    image = height * width
    total = image + call.inputs["encoder_hidden_states"].shape[1]
    return TokenSpans(total, grid, slice(0, image), slice(image, total))


def _flux_spans(call: ForwardPass) -> TokenSpans:
    text = call.inputs["encoder_hidden_states"].shape[1]
    count, grid = _flux_image(call.inputs["img_ids"])
    total = text + call.inputs["hidden_states"].shape[1]
    return TokenSpans(total, grid, slice(text, text + count), slice(0, text))


# Reading positions waits for the GPU, and a pipeline gives the same tensor at every step.
_flux_images: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _flux_image(ids: Shaped[Tensor, "..."]) -> tuple[int, Grid | None]:
    """Number of generated image tokens and their grid, read once per version of `img_ids`."""
    if ids.is_inference():  # such tensors do not count their versions
        return _read_flux_image(ids)
    if ids not in _flux_images or _flux_images[ids][0] != ids._version:
        _flux_images[ids] = (ids._version, _read_flux_image(ids))
    return _flux_images[ids][1]


def _read_flux_image(ids: Shaped[Tensor, "..."]) -> tuple[int, Grid | None]:
    """Columns are (image, row, column); Kontext's reference images follow under another image number."""
    rows = (ids[0] if ids.ndim == 3 else ids).cpu().long()
    count = int((rows[:, 0] == rows[0, 0]).cumprod(0).sum())
    spread = rows[:count, 1:].amax(0) - rows[:count, 1:].amin(0) + 1
    height, width = spread.tolist()
    return count, (height, width) if height * width == count else None


def _patch_grid(model: nn.Module, inputs: Mapping[str, Any]) -> Grid:
    height, width = inputs["hidden_states"].shape[-2:]
    config: Any = model.config
    return height // config.patch_size, width // config.patch_size


def _image_only(grid: Grid) -> TokenSpans:
    total = grid[0] * grid[1]
    return TokenSpans(total, grid, slice(0, total))


UNET = Layout(
    models=("UNet2DConditionModel", "UNet2DModel"),
    attention=_processed("down_blocks", "mid_block", "up_blocks"),
    auto=_unet_auto,
    source=_unet_source,
    spans=_unet_spans,
    advice=ADVICE,
)
PATCHES = Layout(
    models=("DiTTransformer2DModel", "PixArtTransformer2DModel"),
    attention=_processed("transformer_blocks"),
    auto=_middle_block,
    source=_model,
    spans=_patch_spans,
    advice=ADVICE,
)
SD3 = Layout(
    models=("SD3Transformer2DModel",),
    attention=_processed("transformer_blocks"),
    auto=_middle_block,
    source=_model,
    spans=_sd3_spans,
    advice=ADVICE,
)
FLUX = Layout(
    models=("FluxTransformer2DModel",),
    attention=_processed("transformer_blocks", "single_transformer_blocks"),
    auto=_middle_block,
    source=_model,
    spans=_flux_spans,
    advice=ADVICE,
)
DENOISERS = (UNET, PATCHES, SD3, FLUX)
