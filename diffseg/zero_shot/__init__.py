"""Zero-shot segmentation from words: chains over text and image tokens, and the baselines.

`segment(pipe, image, ["church"])`. Source: Erel et al., NeurIPS 2025, arXiv 2507.17657.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["METHODS", "Generate", "Options", "WordSegmentation", "ZeroShot", "heat_maps", "segment"]

if TYPE_CHECKING:
    from diffseg.zero_shot.options import METHODS, Options
    from diffseg.zero_shot.passes import Generate
    from diffseg.zero_shot.result import WordSegmentation, ZeroShot
    from diffseg.zero_shot.run import heat_maps, segment
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "diffseg.zero_shot.options": "METHODS Options",
            "diffseg.zero_shot.passes": "Generate",
            "diffseg.zero_shot.result": "WordSegmentation ZeroShot",
            "diffseg.zero_shot.run": "heat_maps segment",
        },
    )
