"""Embedded text-to-image models: real diffusers pipelines in miniature, trained by this package.

`load_pipeline()` needs no network. The weights, their model cards and pictures are in `weights/`.
"""

from tokenrank_guidance.tiny.loader import available_models, load_pipeline
from tokenrank_guidance.tiny.tokenizer import LABELS, CaptionTokenizer

__all__ = ["LABELS", "CaptionTokenizer", "available_models", "load_pipeline"]
