"""What the capture must know about one model family."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

Grid = tuple[int, int]


@dataclass(frozen=True)
class TokenSpans:
    """Which tokens of one attention call are what: `image` spans `grid` = (h, w) in row-major order.

    `prompt_keys`: keys before the tokens' own that no token stands for, as where a prompt has keys alone.
    `starts`: where each image's own tokens start, if they differ in a batch; all else is said of the order
    that begins with them and ends with what came before.
    """

    total: int
    grid: Grid | None
    image: slice
    text: slice | None = None
    class_token: int | None = None
    registers: slice | None = None
    prompt_keys: int = 0
    starts: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ForwardPass:
    """What tells a layer's tokens in one pass: the `inputs` by name of `source`, a module inside `model`."""

    model: nn.Module
    source: nn.Module
    layer: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """One model family.

    `models`: class names, of `package` where other packages use the same names. `attention`: every attention
    layer by name in running order; the value says whether it is self-attention. `auto`: picks the default
    layer from the ordered names. `source`: (model, layer name) -> name of the module whose inputs fix the
    grid ("" is the model itself). `advice`: how to have attention computed where it is seen.
    """

    models: tuple[str, ...]
    attention: Callable[[nn.Module], dict[str, bool]]
    auto: Callable[[Sequence[str]], str]
    source: Callable[[nn.Module, str], str]
    spans: Callable[[ForwardPass], TokenSpans]
    advice: str
    package: str = ""

    def fits(self, kind: type) -> bool:
        """Whether `kind` itself, not a base of it, is one of the family's classes."""
        return kind.__name__ in self.models and self.package in ("", kind.__module__.partition(".")[0])
