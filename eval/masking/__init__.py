"""Masking the patches that a ranking calls influential: does the classifier miss them?

`masking_ablation` is the experiment as a call; `python -m eval.masking` runs it on a data set.
Source: Erel et al. 2025, arXiv 2507.17657, which leaves layer, heads and masking open.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = [
    "SCORERS",
    "Masking",
    "MaskingResult",
    "PatchScorer",
    "all_layers",
    "each_layer",
    "masking_ablation",
]

if TYPE_CHECKING:
    from eval.masking.ablation import masking_ablation
    from eval.masking.measure import Masking
    from eval.masking.result import MaskingResult
    from eval.masking.scorers import SCORERS, PatchScorer, all_layers, each_layer
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.masking.ablation": "masking_ablation",
            "eval.masking.measure": "Masking",
            "eval.masking.result": "MaskingResult",
            "eval.masking.scorers": "SCORERS PatchScorer all_layers each_layer",
        },
    )
