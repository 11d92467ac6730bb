"""How much a token matters to the others: each score has mean 1, so one threshold means the same for all."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.markov.coerce import Maps, as_operator
from tokenrank_guidance.markov.distribution import as_values
from tokenrank_guidance.markov.heads import HeadWeights, mix_heads, resolve_head_weights
from tokenrank_guidance.markov.stationary import stationary_distribution

Mix = Literal["before", "after"]


def tokenrank(
    maps: Maps,
    *,
    damping: float = 0.99,
    head_weights: HeadWeights = "mean",
    personalization: Float[Tensor, "*v n"] | None = None,
    mix: Mix = "before",
) -> Float[Tensor, "*batch n"]:
    """Stationary distribution of the head-mixed damped chain, ``(batch, tokens)``, sums to 1.

    The head axis is the last batch axis; `mix_heads` lists the ``head_weights``, of which ``None`` ranks per
    head. ``mix="before"`` runs one chain ``sum_h w_h P_h``; ``"after"`` averages one ``pi_h`` per head.
    ``personalization`` ``(..., tokens)`` broadcasts with the result. For a tolerance, a warm start or how it
    converged, call `stationary_distribution` on `mix_heads`. ``ValueError`` and `ConvergenceError` as there.
    Source: arXiv 2507.17657 (TokenRank).
    """
    if mix not in ("before", "after"):
        raise ValueError(f"mix: got {mix!r}, expected 'before' or 'after'")
    operator = as_operator(maps)
    if mix == "before":
        operator = mix_heads(operator, head_weights)
        return stationary_distribution(operator, damping=damping, personalization=personalization).value
    weights = resolve_head_weights(operator, head_weights)
    if weights is None:
        return stationary_distribution(operator, damping=damping, personalization=personalization).value
    if personalization is not None:
        personalization = as_values(personalization, "personalization").unsqueeze(-2)
    per_head = stationary_distribution(operator, damping=damping, personalization=personalization).value
    return (weights.unsqueeze(-1) * per_head).sum(-2)


def tokenrank_score(
    maps: Maps,
    *,
    damping: float = 0.99,
    head_weights: HeadWeights = "mean",
    personalization: Float[Tensor, "*v n"] | None = None,
    mix: Mix = "before",
) -> Float[Tensor, "*batch n"]:
    """``n * tokenrank``, mean 1, with the arguments and errors of `tokenrank`."""
    rank = tokenrank(
        maps, damping=damping, head_weights=head_weights, personalization=personalization, mix=mix
    )
    return rank.shape[-1] * rank


def column_sum(maps: Maps, head_weights: HeadWeights = "mean") -> Float[Tensor, "*batch n"]:
    """``sum_i P[i, j]`` of the head-mixed chain, mean 1: the attention token j receives in one step.

    The score of Self-Attention Guidance, and n times one step of the chain from a uniform start.
    ``head_weights`` as in `mix_heads`. Source: Hong et al. 2023, arXiv 2210.00939.
    """
    return mix_heads(maps, head_weights).column_sums


def attention_from(maps: Maps, token: int) -> Float[Tensor, "*batch n"]:
    """``P[token]``, mean over heads: where one token, such as a class token, attends in one step; sums to 1.

    That row alone is computed. ``IndexError`` for a token that is not there. For more steps, or other heads'
    weights: `multi_bounce`.
    """
    operator = as_operator(maps)
    row = operator.row(token)
    return row.mean(-2) if operator.batch_shape else row
