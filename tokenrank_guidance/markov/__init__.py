"""Attention as a discrete-time Markov chain over tokens.

A post-softmax attention map is row-stochastic, so it is a transition matrix ``P``: entry (i, j) is the
probability to go from token i to token j. Distributions are row vectors and ``P`` acts from the left,
``x @ P``. Axes are ``*batch heads n n``; every algorithm here talks to a `TransitionOperator`, never to a
matrix, and accepts an operator, a row-stochastic tensor or a captured attention record.

Results keep the dtype the chain computes in, float32 or float64: 1/n in half precision does not sum to 1.

Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025, arXiv 2507.17657.
"""

from tokenrank_guidance.markov.absorption import absorption
from tokenrank_guidance.markov.attention import AttentionTransition, FusedTransition
from tokenrank_guidance.markov.bounce import multi_bounce
from tokenrank_guidance.markov.coerce import Maps, SupportsTransition, as_operator
from tokenrank_guidance.markov.composite import MixtureTransition, RestrictedTransition, SelectedTransition
from tokenrank_guidance.markov.deferred import DeferredChecks, deferred_checks, require
from tokenrank_guidance.markov.dense import DenseTransition
from tokenrank_guidance.markov.direct import DIRECT_TOKENS, Direct
from tokenrank_guidance.markov.factored import FactoredTransition
from tokenrank_guidance.markov.gradient import AttentionGradient, GradientTransition
from tokenrank_guidance.markov.heads import HeadWeights, lambda2_head_weights, mix_heads
from tokenrank_guidance.markov.incoming import IncomingTransition
from tokenrank_guidance.markov.krylov import Arnoldi
from tokenrank_guidance.markov.operator import TransitionOperator
from tokenrank_guidance.markov.score import attention_from, column_sum, tokenrank, tokenrank_score
from tokenrank_guidance.markov.solvers import Iteration, MinimalResidual, PowerIteration, Solver, Stationary
from tokenrank_guidance.markov.spectrum import (
    Eigvals,
    SecondEigenvalue,
    Squaring,
    second_eigenvalue,
    solve_second_eigenvalue,
)
from tokenrank_guidance.markov.stationary import stationary_distribution
from tokenrank_guidance.markov.sums import DampedTransition, SumTransition
from tokenrank_guidance.markov.walks import incoming_chain, rollout
from tokenrank_guidance.memory import HELD_BYTES

__all__ = [
    "DIRECT_TOKENS",
    "HELD_BYTES",
    "Arnoldi",
    "AttentionGradient",
    "AttentionTransition",
    "DampedTransition",
    "DeferredChecks",
    "DenseTransition",
    "Direct",
    "Eigvals",
    "FactoredTransition",
    "FusedTransition",
    "GradientTransition",
    "HeadWeights",
    "IncomingTransition",
    "Iteration",
    "Maps",
    "MinimalResidual",
    "MixtureTransition",
    "PowerIteration",
    "RestrictedTransition",
    "SecondEigenvalue",
    "SelectedTransition",
    "Solver",
    "Squaring",
    "Stationary",
    "SumTransition",
    "SupportsTransition",
    "TransitionOperator",
    "absorption",
    "as_operator",
    "attention_from",
    "column_sum",
    "deferred_checks",
    "incoming_chain",
    "lambda2_head_weights",
    "mix_heads",
    "multi_bounce",
    "require",
    "rollout",
    "second_eigenvalue",
    "solve_second_eigenvalue",
    "stationary_distribution",
    "tokenrank",
    "tokenrank_score",
]
