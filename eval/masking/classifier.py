"""Models that name what is in a picture, behind one calling contract: images -> logits and features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.errors import UnsupportedError

HEADS = ("classifier", "cls_classifier", "head")  # transformers, its distilled DeiT, timm

Images = Float[Tensor, "images channels height width"]


@dataclass(frozen=True)
class Classified:
    """`logits` over the classes; `features`: the pooled vector that the last layer makes them from."""

    logits: Float[Tensor, "images classes"]
    features: Float[Tensor, "images dim"]


class Classifier(Protocol):
    """`model` is the vision transformer whose attention is captured; `labels` names its classes in order."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def labels(self) -> Sequence[str]: ...
    def __call__(self, images: Images) -> Classified: ...


@dataclass(frozen=True)
class HeadedClassifier:
    """A model of transformers (…ForImageClassification) or timm that has its own head."""

    model: nn.Module
    labels: Sequence[str]

    def __call__(self, images: Images) -> Classified:
        seen: list[Tensor] = []
        hook = find_head(self.model).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            output: Any = self.model(images)
        finally:
            hook.remove()
        logits = output if isinstance(output, Tensor) else output.logits
        return Classified(logits.float(), seen[-1].float())


@dataclass(frozen=True)
class LinearProbe:
    """A backbone without a head, such as DINO's, and a linear layer of `weight` (classes, dim) and `bias`.

    dim is the backbone's width for a head on the class token, or twice that for one on the class token
    followed by the mean of the patches (DINOv2's). `prefix` counts the class and register tokens.
    """

    model: nn.Module
    labels: Sequence[str]
    weight: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]
    prefix: int

    def __call__(self, images: Images) -> Classified:
        tokens = last_tokens(self.model, images)
        features = tokens[:, 0]
        if self.weight.shape[1] == 2 * tokens.shape[-1]:
            features = torch.cat([features, tokens[:, self.prefix :].mean(1)], 1)
        elif self.weight.shape[1] != tokens.shape[-1]:
            raise ValueError(
                f"a head for features of {self.weight.shape[1]} numbers on a backbone of {tokens.shape[-1]}: "
                f"expected {tokens.shape[-1]} (class token) or {2 * tokens.shape[-1]} (with patches' mean)"
            )
        features = features.float()
        return Classified(F.linear(features, self.weight, self.bias), features)


@dataclass(frozen=True)
class PromptClassifier:
    """CLIP and its like: the cosine of an image with the text of each class, times the learnt scale.

    `whole` has both towers, `model` is its vision tower, `texts` are unit vectors.
    """

    whole: nn.Module
    labels: Sequence[str]
    texts: Float[Tensor, "classes dim"]

    @property
    def model(self) -> nn.Module:
        return self.whole.get_submodule("vision_model")

    def __call__(self, images: Images) -> Classified:
        whole: Any = self.whole
        features = whole.get_image_features(pixel_values=images).pooler_output.float()
        scale = whole.logit_scale.exp().float()
        return Classified(scale * F.normalize(features, dim=-1) @ self.texts.T, features)


def find_head(model: nn.Module) -> nn.Module:
    """The layer that makes the logits; UnsupportedError for a model without one."""
    for name in HEADS:
        head = getattr(model, name, None)
        if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
            return head
    raise UnsupportedError(
        f"{type(model).__name__} does not classify: it has no {', '.join(HEADS)}. Give a linear head for it"
    )


def last_tokens(model: nn.Module, images: Images) -> Float[Tensor, "images tokens dim"]:
    """The normalised tokens of a backbone's last layer, of transformers or timm.

    The model itself is called, as its hooks would not see a call of a part of it.
    """
    seen: list[Tensor] = []
    norm = getattr(model, "norm", None)  # timm pools what it makes
    hook = norm.register_forward_hook(lambda _, __, out: seen.append(out)) if norm is not None else None
    try:
        output: Any = model(images)
    finally:
        if hook is not None:
            hook.remove()
    return seen[-1] if isinstance(output, Tensor) else output.last_hidden_state
