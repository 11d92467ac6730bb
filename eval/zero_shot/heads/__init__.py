"""Are noisy heads the ones with small λ2?

`python -m eval.zero_shot.heads` takes λ2 and the heat map of every head by itself, measures each map against
the objects' masks, and says how the two are ranked together. The claim: Erel et al. 2025, arXiv 2507.17657.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["MAPS", "HeadsResult", "LayerHeads", "Picture", "read_layer"]

if TYPE_CHECKING:
    from eval.zero_shot.heads.choices import MAPS
    from eval.zero_shot.heads.measure import LayerHeads, read_layer
    from eval.zero_shot.heads.result import HeadsResult, Picture
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.zero_shot.heads.choices": "MAPS",
            "eval.zero_shot.heads.measure": "LayerHeads read_layer",
            "eval.zero_shot.heads.result": "HeadsResult Picture",
        },
    )
