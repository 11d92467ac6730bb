"""Where the tokens of a model's attention maps are, and which of its layers have such maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

Grid = tuple[int, ...]  # (h, w) of an image, (t, h, w) of a video


@dataclass(frozen=True)
class TokenSpans:
    """Which tokens of one attention call are what: `image` spans `grid` in row-major order.

    `grid` is (h, w), or (t, h, w) where the frames of a video attend to each other. `frames`: how many rows
    of the call's batch are a video's, one after the other, where each of its frames attends to itself alone.
    `prompt_keys`: keys before the tokens' own that no token stands for, as where a prompt has keys alone;
    `later_keys`: the same after them.
    `rows`: where a layer makes a call for each of so many images alone, with its own number of the prompt's
    tokens after the image's, which `total` does not count.
    `starts`: where each image's own tokens start, if they differ in a batch; all else is said of the order
    that begins with them and ends with what came before. `linear`: weights are products of queries and keys
    that are not negative, each row over its sum, where else they are a softmax.
    """

    total: int
    grid: Grid | None
    image: slice
    text: slice | None = None
    class_token: int | None = None
    registers: slice | None = None
    prompt_keys: int = 0
    later_keys: int = 0
    starts: tuple[int, ...] | None = None
    linear: bool = False
    frames: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class ForwardPass:
    """What tells a layer's tokens in one pass: the `inputs` by name of `source`, a module inside `model`."""

    model: nn.Module
    source: nn.Module
    layer: str
    inputs: Mapping[str, Any]


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
        kinds = {name: _is_self(module) for name, module in named}
        return dict(sorted(kinds.items(), key=lambda item: place(item[0])))

    return find


def _is_self(module: Any) -> bool:
    """Layers with `added_kv_proj_dim` attend to the prompt's keys beside their own: both are in one map."""
    if not getattr(module, "is_cross_attention", False):
        return True
    return module.added_kv_proj_dim is not None and not module.only_cross_attention


def middle_block(names: Sequence[str]) -> str:
    """The middle of the first stack; in SD3 the joint layers, in FLUX the double blocks."""
    stack = names[0].partition(".")[0]
    leaf = names[0].rpartition(".")[2]
    same = [name for name in names if name.startswith(f"{stack}.") and name.endswith(f".{leaf}")]
    return same[len(same) // 2]


def middle_layer(names: Sequence[str]) -> str:
    """The middle of the whole network, where its first stack is but a small part."""
    return names[len(names) // 2]


def all_one(inputs: Mapping[str, Any]) -> int | None:
    """Rows of the batch are pictures, or videos whose frames attend to each other."""
    return None


def whole_model(model: nn.Module, layer: str) -> str:
    """The model itself is given what fixes the grid of each layer."""
    return ""


@dataclass(frozen=True)
class Tokens:
    """Which layers of a model attend, and which token of their maps is what.

    `spans` reads this off a forward pass. `attention`: every attention layer by name in running order; the
    value says whether it is self-attention. `auto`: picks the default layer from the ordered names. `source`:
    (model, layer name) -> name of the module whose inputs `spans` reads ("" is the model itself). `advice`:
    how to have attention computed where it is seen. `frames`: of the model's own inputs by name, `frames` of
    the spans of every layer, of which the layers themselves are not told.
    """

    spans: Callable[[ForwardPass], TokenSpans]
    attention: Callable[[nn.Module], dict[str, bool]]
    auto: Callable[[Sequence[str]], str] = middle_block
    source: Callable[[nn.Module, str], str] = whole_model
    advice: str = ADVICE
    frames: Callable[[Mapping[str, Any]], int | None] = all_one


def image_only(grid: Grid) -> TokenSpans:
    """Image tokens and no others."""
    total = math.prod(grid)
    return TokenSpans(total, grid, slice(0, total))


def patch_grid(call: ForwardPass) -> Grid:
    """(h, w) of the latents in patches of `patch_size`."""
    height, width = call.inputs["hidden_states"].shape[-2:]
    config: Any = call.model.config
    return height // config.patch_size, width // config.patch_size


def patch_spans(call: ForwardPass) -> TokenSpans:
    """Patches of the latents, and no other tokens."""
    return image_only(patch_grid(call))
