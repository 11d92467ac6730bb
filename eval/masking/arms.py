"""What is compared: scorers at layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from eval.masking.attribution import Seen
from eval.masking.ranking import Order, ranks
from eval.masking.scorers import PatchScorer, find_scorers
from tokenrank_guidance.capture import AttentionRecord, AttentionTap
from tokenrank_guidance.capture.layers import Layers
from tokenrank_guidance.markov.precision import float64_on_cpu


@dataclass(frozen=True)
class Arm:
    """One ranking: a scorer at self-attention layer number `layer`, None where it does not read just one."""

    scorer: str
    layer: int | None = None

    @property
    def key(self) -> str:
        return self.scorer if self.layer is None else f"{self.scorer}@{self.layer}"

    @property
    def title(self) -> str:
        """For people: the scorer, and its layer where it has one."""
        return self.scorer if self.layer is None else f"{self.scorer} (layer {self.layer})"


@dataclass(frozen=True)
class Ranker:
    """All arms' rankings from the records of one forward pass.

    `layers`: names of the model's self-attention layers in running order; `needed` are those to capture.
    """

    arms: Sequence[Arm]
    layers: tuple[str, ...]

    @property
    def scorers(self) -> dict[str, PatchScorer]:
        return find_scorers([arm.scorer for arm in self.arms])

    @property
    def needed(self) -> tuple[str, ...]:
        """Every layer if one scorer reads all, else those of the arms, else the last for its grid."""
        if any(scorer.reads == "all layers" for scorer in self.scorers.values()):
            return self.layers
        numbers = {arm.layer for arm in self.arms if arm.layer is not None}
        return tuple(self.layers[i] for i in sorted(numbers)) or self.layers[-1:]

    @property
    def backward(self) -> bool:
        """Whether some scorer reads gradients."""
        return any(scorer.reads == "gradients" for scorer in self.scorers.values())

    def places(
        self,
        records: Sequence[AttentionRecord],
        seeds: Sequence[int],
        order: Order,
        seen: Seen | None = None,
    ) -> Int[Tensor, "arms images patches"]:
        """Where each patch stands in each arm's ranking of each image; 0 is masked first."""
        named = {record.module: record for record in records}
        scores = [self._score(arm, named, seeds, seen) for arm in self.arms]
        return ranks(torch.stack([float64_on_cpu(score) for score in scores]), order).to(scores[0].device)

    def _score(
        self, arm: Arm, named: Mapping[str, AttentionRecord], seeds: Sequence[int], seen: Seen | None
    ) -> Tensor:
        if seen is not None and self.scorers[arm.scorer].reads == "gradients":
            return self.scorers[arm.scorer](seen, seeds)
        own = list(named.values()) if arm.layer is None else [named[self.layers[arm.layer]]]
        return self.scorers[arm.scorer](own, seeds)


def choose_arms(model: nn.Module, scorers: Sequence[str], layers: Layers = "all") -> Ranker:
    """Each scorer of one layer at each of `layers` (as in `capture`), every other scorer once.

    Raises ValueError for an unknown scorer or layer, and for a model whose attention is not known.
    """
    names = AttentionTap(model, "all").layers
    numbers = [names.index(name) for name in AttentionTap(model, layers).layers]
    arms = [
        Arm(name, number)
        for name, scorer in find_scorers(scorers).items()
        for number in (numbers if scorer.reads == "one layer" else [None])
    ]
    return Ranker(arms, names)


def fixed_arms(model: nn.Module, layer_of: Mapping[str, int | None]) -> Ranker:
    """Each scorer at its own layer, such as the best one of an earlier run.

    Raises ValueError for an unknown scorer, a layer that the model lacks, and a layer for a scorer that reads
    none or all of them, or none for one that needs it.
    """
    names = AttentionTap(model, "all").layers
    for name, scorer in find_scorers(list(layer_of)).items():
        layer = layer_of[name]
        if (layer is not None) != (scorer.reads == "one layer"):
            raise ValueError(f"scorer {name} reads {scorer.reads}, and was given layer {layer}")
        if layer is not None and not 0 <= layer < len(names):
            raise ValueError(f"scorer {name} at layer {layer}: the model has {len(names)} layers")
    return Ranker([Arm(name, layer) for name, layer in layer_of.items()], names)
