"""The denoisers of diffusers whose image and text tokens share one attention map."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Shaped
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from tokenrank_guidance.capture.denoisers import (
    ADVICE,
    image_only,
    middle_block,
    patch_grid,
    processed,
    whole_model,
)
from tokenrank_guidance.capture.layout import ForwardPass, Grid, Layout, TokenSpans


def _middle_layer(names: Sequence[str]) -> str:
    """The middle of the whole network, where its first stack is but a small part."""
    return names[len(names) // 2]


def _sd3_spans(call: ForwardPass) -> TokenSpans:
    height, width = grid = patch_grid(call.model, call.inputs)
    if call.layer.endswith(".attn2"):  # SD3.5's second attention of a block
        return image_only(grid)
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
    """Columns are (image, row, column, ...); reference images (Kontext) follow under another image number."""
    rows = (ids[0] if ids.ndim == 3 else ids).cpu().long()
    count = int((rows[:, 0] == rows[0, 0]).cumprod(0).sum())
    spread = rows[:count, 1:3].amax(0) - rows[:count, 1:3].amin(0) + 1
    height, width = spread.tolist()
    return count, (height, width) if height * width == count else None


def _qwen_spans(call: ForwardPass) -> TokenSpans:
    """Text first; the image, then reference images (Qwen-Image-Edit), each (frames, rows, columns)."""
    shapes = call.inputs["img_shapes"][0]
    frames, height, width = shapes[0] if isinstance(shapes, list) else shapes
    text, count = call.inputs["encoder_hidden_states"].shape[1], frames * height * width
    total = text + call.inputs["hidden_states"].shape[1]
    grid = (height, width) if frames == 1 else None
    return TokenSpans(total, grid, slice(text, text + count), slice(0, text))


def _auraflow_spans(call: ForwardPass) -> TokenSpans:
    """Registers first, then text, then the image."""
    model: Any = call.model
    height, width = grid = patch_grid(model, call.inputs)
    registers = model.register_tokens.shape[1]
    image = registers + call.inputs["encoder_hidden_states"].shape[1]
    total = image + height * width
    return TokenSpans(
        total, grid, slice(image, total), slice(registers, image), registers=slice(0, registers)
    )


def _lumina_layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that refine the text alone are none of its maps."""
    found = processed("noise_refiner", "layers")(model)
    return {name: kind for name, kind in found.items() if not name.startswith("context_refiner.")}


def _lumina_auto(names: Sequence[str]) -> str:
    return _middle_layer([name for name in names if name.startswith("layers.")] or names)


def _lumina_spans(call: ForwardPass) -> TokenSpans:
    """Each prompt without its padding, then its image; rows with shorter prompts are padded at the end."""
    height, width = grid = patch_grid(call.model, call.inputs)
    image = height * width
    if call.layer.startswith("noise_refiner."):
        return TokenSpans(image, grid, slice(0, image))
    prompts = call.inputs["encoder_attention_mask"].sum(1).tolist()  # read by the model too
    longest = max(prompts)
    if min(prompts) == longest:
        return TokenSpans(longest + image, grid, slice(longest, longest + image), slice(0, longest))
    return TokenSpans(longest + image, grid, slice(0, image), starts=tuple(prompts))


def _joint(
    models: tuple[str, ...],
    stacks: tuple[str, ...],
    spans: Callable[[ForwardPass], TokenSpans],
    auto: Callable[[Sequence[str]], str] = middle_block,
) -> Layout:
    return Layout(
        models=models,
        attention=processed(*stacks),
        auto=auto,
        source=whole_model,
        spans=spans,
        advice=ADVICE,
    )


DOUBLE, SINGLE = "transformer_blocks", "single_transformer_blocks"
SD3 = _joint(("SD3Transformer2DModel",), (DOUBLE,), _sd3_spans)
FLUX = _joint(("FluxTransformer2DModel",), (DOUBLE, SINGLE), _flux_spans)
FLUX2 = _joint(("Flux2Transformer2DModel",), (DOUBLE, SINGLE), _flux_spans, _middle_layer)
QWEN = _joint(("QwenImageTransformer2DModel",), (DOUBLE,), _qwen_spans)
AURAFLOW = _joint(
    ("AuraFlowTransformer2DModel",), (f"joint_{DOUBLE}", SINGLE), _auraflow_spans, _middle_layer
)
LUMINA2 = Layout(
    models=("Lumina2Transformer2DModel",),
    attention=_lumina_layers,
    auto=_lumina_auto,
    source=whole_model,
    spans=_lumina_spans,
    advice=ADVICE,
)
JOINT = (SD3, FLUX, FLUX2, QWEN, AURAFLOW, LUMINA2)
