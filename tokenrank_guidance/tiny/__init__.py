"""Embedded text-to-image models: real diffusers pipelines in miniature, trained by this package.

`load_pipeline()` needs no network. The weights, their model cards and pictures are in `weights/`.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["LABELS", "CaptionTokenizer", "available_models", "load_pipeline"]

if TYPE_CHECKING:
    from tokenrank_guidance.tiny.loader import available_models, load_pipeline
    from tokenrank_guidance.tiny.tokenizer import LABELS, CaptionTokenizer
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "tokenrank_guidance.tiny.loader": "available_models load_pipeline",
            "tokenrank_guidance.tiny.tokenizer": "LABELS CaptionTokenizer",
        },
    )
