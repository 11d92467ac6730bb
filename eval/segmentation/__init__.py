"""Segmentation by attention, measured: uniform anchors against those that TokenRank chooses.

`python -m eval.segmentation` runs it on a data set. Sources: Tian et al., CVPR 2024 (DiffSeg), whose protocol
matches segments to classes in each image; Erel et al. 2025, arXiv 2507.17657, for the anchors.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["Arm", "Measurement", "SegmentationResult"]

if TYPE_CHECKING:
    from eval.segmentation.arms import Arm
    from eval.segmentation.measure import Measurement
    from eval.segmentation.result import SegmentationResult
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.segmentation.arms": "Arm",
            "eval.segmentation.measure": "Measurement",
            "eval.segmentation.result": "SegmentationResult",
        },
    )
