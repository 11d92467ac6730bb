"""The names and numbers that `python -m eval.masking` chooses from; nothing here needs torch."""

from collections.abc import Collection
from difflib import get_close_matches

from eval.masking.fills import FILLS

SCORER_NAMES = (
    *("random", "centre", "column_sum", "cls_attention", "rollout"),
    *("tokenrank", "tokenrank_per_head", "tokenrank_lambda2"),
    *("tokenrank_cls", "tokenrank_per_head_cls", "tokenrank_lambda2_cls"),
    *("cross_layer_tokenrank", "cross_layer_walk"),
    *("gradient_chain", "gradient_rollout", "gradient_input", "integrated_gradients"),
)
OF_NO_LAYER = (
    *("random", "centre", "rollout", "cross_layer_tokenrank", "cross_layer_walk"),
    *("gradient_chain", "gradient_rollout", "gradient_input", "integrated_gradients"),
)
RANDOM = "random"
MASKS = (*FILLS, "drop")
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def unknown_scorer(name: str, known: Collection[str]) -> str:
    """What to say of a name that is none of the `known`."""
    close = get_close_matches(name, known, n=1)
    meant = f", did you mean {close[0]!r}?" if close else "."
    return f"unknown scorer {name!r}{meant} Known: {', '.join(known)}"
