"""Zero-shot segmentation from words: chains over text and image tokens, and the baselines.

`segment(pipe, image, ["church"])`. Source: Erel et al., NeurIPS 2025, arXiv 2507.17657.
"""

from diffseg.zero_shot.options import METHODS, Options
from diffseg.zero_shot.passes import Generate
from diffseg.zero_shot.result import ZeroShot
from diffseg.zero_shot.run import heat_maps, segment

__all__ = ["METHODS", "Generate", "Options", "ZeroShot", "heat_maps", "segment"]
