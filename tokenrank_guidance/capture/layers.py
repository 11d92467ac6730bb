"""Which of a model's attention layers to capture."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from torch import nn

from tokenrank_guidance.families.tokens import Tokens

Layers = str | int | Sequence[str | int]


def choose_layers(model: nn.Module, tokens: Tokens, layers: Layers) -> tuple[str, ...]:
    """Names of the chosen self-attention modules, each once, in the order asked for.

    `layers` is "auto" (the family's default), "all", an exact module name, an index into the self-attention
    layers in running order (negative from the end), or a sequence of names and indices. Raises ValueError for
    anything else, for a name that is no attention layer (with the closest ones) and for cross-attention.
    """
    kinds = tokens.attention(model)
    names = [name for name, is_self in kinds.items() if is_self]
    if not names:
        raise ValueError(f"{type(model).__name__} has no self-attention layer")
    if layers == "all":
        return tuple(names)
    asked = [layers] if isinstance(layers, str | int) else list(layers)
    if not asked:
        raise ValueError("layers is empty: use 'auto', 'all', module names or indices")
    return tuple(dict.fromkeys(_choose(choice, names, kinds, tokens) for choice in asked))


def _choose(choice: str | int, names: Sequence[str], kinds: Mapping[str, bool], tokens: Tokens) -> str:
    if choice == "auto":
        return tokens.auto(names)
    if isinstance(choice, str):
        return _named(choice, names, kinds)
    if not isinstance(choice, int) or isinstance(choice, bool):
        raise ValueError(f"a layer is a module name or an index, got {choice!r}")
    if not -len(names) <= choice < len(names):
        raise ValueError(f"layer {choice} does not exist: the model has {len(names)} self-attention layers")
    return names[choice]


def _named(name: str, names: Sequence[str], kinds: Mapping[str, bool]) -> str:
    if kinds.get(name):
        return name
    if name in kinds:
        raise ValueError(
            f"{name!r} is cross-attention: between image and text tokens there is no chain over one set. "
            f"Choose self-attention, such as {_closest(name, names)}"
        )
    raise ValueError(
        f"{name!r} is not an attention layer; names are exact. Closest: {_closest(name, names)}. "
        f"layers='all' takes all {len(names)}"
    )


def _closest(name: str, names: Sequence[str]) -> str:
    return ", ".join(get_close_matches(name, names, n=3, cutoff=0.3) or names[:3])
