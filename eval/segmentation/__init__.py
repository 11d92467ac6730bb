"""Segmentation by attention, measured: uniform anchors against those that TokenRank chooses.

`python -m eval.segmentation` runs it on a data set. Sources: Tian et al., CVPR 2024 (DiffSeg), whose protocol
matches segments to classes in each image; Erel et al. 2025, arXiv 2507.17657, for the anchors.
"""

from eval.segmentation.arms import Arm
from eval.segmentation.measure import Measurement
from eval.segmentation.result import SegmentationResult

__all__ = ["Arm", "Measurement", "SegmentationResult"]
