"""Segmentation by attention: DiffSeg, with anchors where the chain says they belong."""

from diffseg.anchors import AnchorRequest
from diffseg.chain import segment_chain, segment_maps, segment_records
from diffseg.pipeline import DiffSeg
from diffseg.result import Segmentation
from diffseg.settings import REFERENCE, Settings

__all__ = [
    "REFERENCE",
    "AnchorRequest",
    "DiffSeg",
    "Segmentation",
    "Settings",
    "segment_chain",
    "segment_maps",
    "segment_records",
]
