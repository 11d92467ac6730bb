"""ConceptAttention: where the outputs of image tokens point the same way as a concept's.

Concepts are text tokens of their own that see the image and each other, while nothing sees them: in every
double block they take the text's weights, modulated as under an empty prompt, and attend to the image. The
map of concept c is the softmax over concepts of o_image · o_c, o being a token's attention output before its
projection, all heads together; it is averaged over layers and passes.
Source: Helbling et al., ICML 2025, arXiv 2502.04320, and its code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffseg.zero_shot.collect import Heat, LayerMean, Reading
from diffseg.zero_shot.concept_text import ConceptText, encode_concepts
from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import CaptureError
from tokenrank_guidance.markov.precision import full_precision

KERNEL = 3


class ConceptAttention:
    """Carries the concepts through the double blocks beside the model, whose own tokens stay as they are."""

    whole = False

    def __init__(self, reading: Reading, layers: Sequence[str], options: Options) -> None:
        self.options = [options]
        self._reading, self._layers, self._mean = reading, layers, LayerMean()
        count = len(reading.concepts)
        others = [word for word in options.background if word not in reading.concepts]
        self._shown = count
        self._text: ConceptText = encode_concepts(reading.pipe, (*reading.concepts, *others))
        self._stream: Tensor | None = None
        self._modulation: Tensor | None = None
        self._concepts: Tensor | None = None
        self._image: Tensor | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        model: Any = denoiser_of(self._reading.pipe)
        handles = [model.register_forward_pre_hook(eager(self._begin), with_kwargs=True)]
        try:
            for block in model.transformer_blocks:
                step = self._step_of(block)
                handles.append(block.attn.register_forward_pre_hook(eager(step), with_kwargs=True))
                handles.append(block.attn.to_out[0].register_forward_pre_hook(eager(self._output)))
            with capture(model, self._layers, reduce=self._add):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def finish(self) -> list[Heat]:
        heat, self._mean = self._mean.value(), LayerMean()
        return [blurred(heat, self.options[0].blur)]

    def _begin(self, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if self._reading.current.wanted:
            self._stream = model.context_embedder(self._text.tokens)
            self._modulation = self._text.modulation(model, kwargs)

    def _step_of(self, block: Any):
        def step(attn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            if self._reading.current.wanted:
                self._advance(block, attn, kwargs)

        return step

    def _advance(self, block: Any, attn: Any, kwargs: Mapping[str, Any]) -> None:
        assert self._stream is not None and self._modulation is not None
        last = getattr(block, "context_pre_only", False) or False
        modulated = block.norm1_context(self._stream, emb=self._modulation) if not last else None
        if modulated is None:
            normed = block.norm1_context(self._stream, self._modulation)
            self._concepts = concept_output(attn, normed, kwargs)
            return
        normed, gate, shift, scale, gate_ff = modulated
        self._concepts = concept_output(attn, normed, kwargs)
        stream = self._stream + gate[:, None] * attn.to_add_out(self._concepts)
        inner = block.norm2_context(stream) * (1 + scale[:, None]) + shift[:, None]
        self._stream = stream + gate_ff[:, None] * block.ff_context(inner)

    def _output(self, module: Any, args: Sequence[Any]) -> None:
        if self._reading.current.wanted:
            self._image = args[0][-1:]

    def _add(self, record: AttentionRecord) -> None:
        if not self._reading.current.wanted:
            return
        if record.plane is None:
            raise CaptureError(f"{record.module} has no grid of image tokens")
        assert self._concepts is not None and self._image is not None
        pixels = record.plane[0] * record.plane[1]  # reference images of Kontext follow
        with full_precision(self._image.device):
            logits = self._concepts[0].float() @ self._image[0, :pixels].float().mT
        self._mean.add(logits.softmax(0)[: self._shown].unflatten(-1, record.plane))


def concept_output(
    attn: Any, normed: Float[Tensor, "1 concepts dim"], kwargs: Mapping[str, Any]
) -> Float[Tensor, "1 concepts inner"]:
    """What the concepts read from themselves and the image, before the projection.

    Text has position 0, where rotary embedding changes nothing.
    """
    image = kwargs["hidden_states"][-1:]
    q, k, v = (
        _heads(attn, project(normed)) for project in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
    )
    q, k = _normed(attn.norm_added_q, q), _normed(attn.norm_added_k, k)
    image_k = _rotated(_normed(attn.norm_k, _heads(attn, attn.to_k(image))), kwargs.get("image_rotary_emb"))
    keys = torch.cat([k, image_k], 1)
    values = torch.cat([v, _heads(attn, attn.to_v(image))], 1)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))
    return out.transpose(1, 2).flatten(2)


def blurred(heat: Heat, sigma: float) -> Heat:
    """A 3×3 Gaussian of `sigma` tokens, reflected at the edges; 0 changes nothing."""
    if sigma == 0 or min(heat.shape[-2:]) < 2:
        return heat
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(heat, [KERNEL, KERNEL], [sigma, sigma])


def _heads(attn: Any, x: Float[Tensor, "1 n inner"]) -> Float[Tensor, "1 n heads dim"]:
    return x.unflatten(-1, (attn.heads, -1))


def _normed(norm: Any, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)


def _rotated(x: Float[Tensor, "1 n heads dim"], rotary: Any) -> Float[Tensor, "1 n heads dim"]:
    if rotary is None:
        return x
    from diffusers.models.embeddings import apply_rotary_emb

    own = tuple(side[-x.shape[1] :] for side in rotary)  # the text's come first
    rotated: Any = apply_rotary_emb(x, own, sequence_dim=1)
    return rotated
