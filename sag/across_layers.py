"""Scorers that read several layers together, along the way that attention takes through them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenrank_guidance.checks import is_damping, is_number

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from tokenrank_guidance.capture import AttentionRecord
    from tokenrank_guidance.markov import GradientTransition


class AcrossLayers(ABC):
    """A scorer of all ranked layers together: it gives (batch, h, w) with mean 1, on a grid of its choice.

    For a video whose frames share the maps (batch, t, h, w). One with `gradients` is given
    `tokenrank_guidance.capture.GradientRecord`s: guidance makes one more pass for it, forward and back.
    """

    @property
    def gradients(self) -> bool:
        return False

    @abstractmethod
    def __call__(self, records: Sequence[AttentionRecord]) -> Float[Tensor, "batch *grid"]:
        """`records` of the layers in running order, each of the same images."""


@dataclass(frozen=True)
class RolloutScorer(AcrossLayers):
    """Attention rollout (Abnar and Zuidema 2020): N·u A_L … A_1, A = s I + (1 − s) P, u even over tokens.

    In one layer it ranks as attention received does. Raises ValueError for a `staying` s outside [0, 1], and
    for layers of different grids, which no walk goes through.
    """

    staying: float = 0.5

    def __post_init__(self) -> None:
        if not (is_number(self.staying) and 0 <= self.staying <= 1):
            raise ValueError(f"staying is {self.staying!r}; expected a number in [0, 1]")

    def __call__(self, records: Sequence[AttentionRecord]) -> Float[Tensor, "batch *grid"]:
        from tokenrank_guidance.markov import rollout

        grid = _one_grid(records, "rollout")
        ends = rollout([record.transition(tokens="image") for record in records], staying=self.staying)
        return ends.shape[-1] * ends.unflatten(-1, grid)


class _GradientScorer(AcrossLayers):
    """Scores by (∂y/∂A ⊙ A)⁺ of the layers' attention A over image tokens, y = ½‖ε‖² of what is predicted.

    A denoiser has no class. ½‖f‖² stands in a logit's place: its derivative is that of every output, each
    weighed by its size, the label-free importance of Crabbé and van der Schaar (ICML 2022, arXiv 2203.01928).
    Raises ValueError for records without gradients and for layers of different grids.
    """

    @property
    def gradients(self) -> bool:
        return True

    def __call__(self, records: Sequence[AttentionRecord]) -> Float[Tensor, "batch *grid"]:
        from tokenrank_guidance.capture import GradientRecord
        from tokenrank_guidance.markov import GradientTransition

        given: list[Any] = [record for record in records if isinstance(record, GradientRecord)]
        if len(given) < len(records):
            raise ValueError(f"{type(self).__name__} reads gradients, which {records[0]!r} has not")
        grid = _one_grid(records, "a gradient's chain")
        score = self._rank(GradientTransition([record.restrict("image").gradient for record in given]))
        return (score / score.mean(-1, keepdim=True)).unflatten(-1, grid)

    @abstractmethod
    def _rank(self, chain: GradientTransition) -> Float[Tensor, "batch n"]: ...


@dataclass(frozen=True)
class GradientChainScorer(_GradientScorer):
    """TokenRank of attention that raises y: N·π of the damped chain P ∝ Σ_l mean_h (∂y/∂A ⊙ A)⁺.

    y = ½‖ε‖² of the prediction, A over image tokens alone. Raises ValueError for a damping outside (0, 1),
    and for records without gradients or of different grids.
    """

    damping: float = 0.99

    def __post_init__(self) -> None:
        if not is_damping(self.damping):
            raise ValueError(f"damping is {self.damping!r}; expected a number in (0, 1)")

    def _rank(self, chain: GradientTransition) -> Float[Tensor, "batch n"]:
        from tokenrank_guidance.markov import stationary_distribution

        return stationary_distribution(chain, damping=self.damping).value


@dataclass(frozen=True)
class GradientRolloutScorer(_GradientScorer):
    """Chefer's rollout from all image tokens alike: u Π_l (I + mean_h (∂y/∂A ⊙ A)⁺) − u, to mean 1.

    The last layer comes first; y and errors as of `GradientChainScorer`. Source: arXiv 2103.15679, eq. 6.
    """

    def _rank(self, chain: GradientTransition) -> Float[Tensor, "batch n"]:
        n = chain.shape[-1]
        gained = chain.gained(chain.row_sums.new_full((n,), 1 / n))
        return gained + (gained.sum(-1, keepdim=True) == 0)


def _one_grid(records: Sequence[AttentionRecord], what: str) -> tuple[int, ...]:
    grids = {record.grid for record in records}
    grid = records[-1].grid
    if len(grids) != 1 or grid is None:
        found = ", ".join(f"{record.module} of {record.grid}" for record in records)
        raise ValueError(f"{what} walks through layers of one grid; got {found}: choose such layers")
    return grid
