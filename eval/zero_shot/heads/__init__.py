"""Are noisy heads the ones with small λ2?

`python -m eval.zero_shot.heads` takes λ2 and the heat map of every head by itself, measures each map against
the objects' masks, and says how the two are ranked together. The claim: Erel et al. 2025, arXiv 2507.17657.
"""

from eval.zero_shot.heads.measure import MAPS, LayerHeads, read_layer
from eval.zero_shot.heads.result import HeadsResult, Picture

__all__ = ["MAPS", "HeadsResult", "LayerHeads", "Picture", "read_layer"]
