"""Concepts as text tokens, each encoded alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.words import text_readers, tokens_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import words_of


@dataclass(frozen=True, eq=False)
class ConceptText:
    """The concepts' embeddings, and the pooled one of the empty prompt, under which they are modulated."""

    tokens: Float[Tensor, "1 concepts dim"]
    pooled: Float[Tensor, "1 pooled"]
    time_scale: float

    def modulation(self, model: Any, inputs: Mapping[str, Any]) -> Float[Tensor, "1 dim"]:
        """The time and text embedding of a pass with the denoiser's `inputs`."""
        times = [inputs["timestep"][-1:].to(self.pooled.dtype) * self.time_scale]
        if inputs.get("guidance") is not None:
            times.append(inputs["guidance"][-1:].to(self.pooled.dtype) * self.time_scale)
        return model.time_text_embed(*times, self.pooled)


@torch.no_grad()
def encode_concepts(pipe: Any, concepts: Sequence[str]) -> ConceptText:
    """The first token of each concept, encoded alone, of the T5 encoder where there is one.

    As the published code does it; later tokens of a word count only through what the first has read of them.
    Raises UnsupportedError for a pipeline other than FLUX's and SD3's.
    """
    known = words_of(pipe).concepts
    if known is None:
        raise UnsupportedError(f"concept-attention needs FLUX or SD3, got {type(pipe).__name__}")
    last = text_readers(pipe)[-1:]
    vectors = [
        known.encode(pipe, concept)[0][0, tokens_of(last, concept, concept)[0]] for concept in concepts
    ]
    return ConceptText(torch.stack(vectors)[None], known.encode(pipe, "")[1], known.time_scale)
