"""How much each patch of an image matters, by name: `SCORERS`.

Every scorer gives (batch, patches) with mean 1, and the patches are masked in the order of their scores. A
new one is an entry of `SCORERS`, made by `each_layer` from a function of one record, or by `all_layers` from
a function of the records of every layer in running order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from eval.masking.attribution import (
    Seen,
    gradient_chain,
    gradient_input,
    gradient_rollout,
    integrated_gradients,
)
from eval.masking.choices import unknown_scorer
from eval.masking.class_attention import cls_attention, mean_one, rollout
from eval.masking.cross_layer import ClassTokenRank, LazyWalk
from eval.masking.floor import centre, random
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import column_sum, tokenrank_score
from tokenrank_guidance.markov.score import Mix

Records = Sequence[AttentionRecord]
Scores = Float[Tensor, "batch patches"]
Reads = Literal["one layer", "all layers", "no attention", "gradients"]


@dataclass(frozen=True)
class PatchScorer:
    """`score(records, seeds)` -> (batch, patches) with mean 1.

    `reads` says what `records` must be: those of "one layer" (such a scorer is run at each layer asked for),
    of "all layers" in running order, or of any, whose grid alone is read; "gradients" are given in their
    place what `attribution.look` has `Seen`. `seeds` holds one seed per image of
    the batch, so that a random choice does not depend on how they are batched. Raises ValueError where the
    model lacks what the score needs, such as a class token.
    """

    score: Callable[[Any, Sequence[int]], Scores]
    reads: Reads

    def __call__(self, records: Records | Seen, seeds: Sequence[int]) -> Scores:
        return self.score(records, seeds)


def each_layer(score: Callable[[AttentionRecord], Scores]) -> PatchScorer:
    """The scorer of one record, run at every layer that is asked for."""
    return PatchScorer(lambda records, seeds: score(records[-1]), "one layer")


def all_layers(score: Callable[[Records], Scores]) -> PatchScorer:
    """The scorer of the records of all layers, in running order."""
    return PatchScorer(lambda records, seeds: score(records), "all layers")


def backward(score: Callable[[Seen], Scores]) -> PatchScorer:
    """The scorer of a pass forward and back."""
    return PatchScorer(lambda seen, seeds: score(seen), "gradients")


def find_scorers(names: Sequence[str]) -> dict[str, PatchScorer]:
    """The scorers of these names, in their order; ValueError for an unknown one, and for none."""
    if not names:
        raise ValueError(f"no scorer is named; known: {', '.join(SCORERS)}")
    for name in names:
        if name not in SCORERS:
            raise ValueError(unknown_scorer(name, SCORERS))
    return {name: SCORERS[name] for name in dict.fromkeys(names)}


def received(record: AttentionRecord) -> Scores:
    """Σᵢ Pᵢⱼ of the heads' mean over the patches alone (Hong et al. 2023)."""
    return column_sum(record.transition(tokens="image"))


def rank_patches(
    record: AttentionRecord, head_weights: Literal["mean", "lambda2"] = "mean", mix: Mix = "before"
) -> Scores:
    """N·π of the chain over the patches alone (Erel et al. 2025)."""
    return tokenrank_score(record.transition(tokens="image"), head_weights=head_weights, mix=mix)


def rank_with_class(
    record: AttentionRecord, head_weights: Literal["mean", "lambda2"] = "mean", mix: Mix = "before"
) -> Scores:
    """N·π of the chain over class token and patches, of which the patches' part is brought to mean 1."""
    _need_class(record)
    score = tokenrank_score(record.transition(tokens="class+image"), head_weights=head_weights, mix=mix)
    return mean_one(score[:, 1:])


def _need_class(record: AttentionRecord) -> None:
    if record.class_token is None:
        raise ValueError(f"{record.module or 'the model'} has no class token: use the scorers without _cls")


SCORERS: dict[str, PatchScorer] = {
    "random": PatchScorer(random, "no attention"),
    "centre": PatchScorer(centre, "no attention"),
    "column_sum": each_layer(received),
    "cls_attention": each_layer(cls_attention),
    "rollout": all_layers(rollout),
    "tokenrank": each_layer(rank_patches),
    "tokenrank_per_head": each_layer(partial(rank_patches, mix="after")),
    "tokenrank_lambda2": each_layer(partial(rank_patches, head_weights="lambda2")),
    "tokenrank_cls": each_layer(rank_with_class),
    "tokenrank_per_head_cls": each_layer(partial(rank_with_class, mix="after")),
    "tokenrank_lambda2_cls": each_layer(partial(rank_with_class, head_weights="lambda2")),
    # Shares, damping and staying were chosen with ViT-Ti on the even rows of the image set alone.
    "cross_layer_tokenrank": all_layers(ClassTokenRank(share=0.25, damping=0.3)),
    "cross_layer_walk": all_layers(LazyWalk(share=0.25, staying=0.7)),
    "gradient_chain": backward(gradient_chain),
    "gradient_rollout": backward(gradient_rollout),
    "gradient_input": backward(gradient_input),
    "integrated_gradients": backward(integrated_gradients),
}
