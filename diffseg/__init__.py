"""Segmentation by attention: DiffSeg, with anchors where the chain says they belong."""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

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

if TYPE_CHECKING:
    from diffseg.chain import segment_chain, segment_maps, segment_records
    from diffseg.maps.anchors import AnchorRequest
    from diffseg.pipeline import DiffSeg
    from diffseg.result import Segmentation
    from diffseg.settings import REFERENCE, Settings
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "diffseg.maps.anchors": "AnchorRequest",
            "diffseg.chain": "segment_chain segment_maps segment_records",
            "diffseg.pipeline": "DiffSeg",
            "diffseg.result": "Segmentation",
            "diffseg.settings": "REFERENCE Settings",
        },
    )
