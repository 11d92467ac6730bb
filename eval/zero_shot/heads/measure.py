"""λ2 and heat maps of single heads, from one layer's queries and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.markov import TransitionOperator, multi_bounce, tokenrank
from tokenrank_guidance.markov.bounce import Direction
from tokenrank_guidance.markov.heads import rough_second_eigenvalue

WALKS: Mapping[str, tuple[int, Direction]] = {
    "row": (1, "outgoing"),
    "column": (1, "incoming"),
    "bounce": (2, "outgoing"),
}
TOKENRANK = "tokenrank"


@dataclass(frozen=True, eq=False)
class LayerHeads:
    """The heads of one layer: λ2 of each, and by the name of the map each one's heat."""

    layer: str
    lambda2: Float[Tensor, " heads"]
    heats: Mapping[str, Float[Tensor, "heads gh gw"]]


@torch.no_grad()
def read_layer(record: AttentionRecord, start: Float[Tensor, " tokens"], maps: Sequence[str]) -> LayerHeads:
    """Heads apart: "row", "column" and "bounce" walk from `start`; "tokenrank" ranks image tokens alone.

    λ2 is that of the undamped chain over all tokens. The record is of a single picture. Raises CaptureError
    for a layer without a grid.
    """
    if record.plane is None:
        raise CaptureError(f"{record.module} has no grid of image tokens")
    operator = record.transition()
    heats = {name: _heat(record, operator, start, name).unflatten(-1, record.plane) for name in maps}
    return LayerHeads(record.module, rough_second_eigenvalue(operator)[0], heats)


def mean_of(passes: Sequence[Sequence[LayerHeads]]) -> list[LayerHeads]:
    """Layer by layer over passes."""
    return [_mean(layers) for layers in zip(*passes, strict=True)]


def _heat(
    record: AttentionRecord, operator: TransitionOperator, start: Float[Tensor, " tokens"], name: str
) -> Float[Tensor, "heads pixels"]:
    if name == TOKENRANK:
        return tokenrank(record.restrict("image"), head_weights=None)[0].float()
    n, direction = WALKS[name]
    return multi_bounce(operator, start, n, direction)[0][:, record.image].float()


def _mean(layers: Sequence[LayerHeads]) -> LayerHeads:
    heats = {name: torch.stack([one.heats[name] for one in layers]).mean(0) for name in layers[0].heats}
    return LayerHeads(layers[0].layer, torch.stack([one.lambda2 for one in layers]).mean(0), heats)
