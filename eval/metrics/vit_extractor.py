"""An image classifier as a feature extractor of torch-fidelity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from tokenrank_guidance.files.digest import tensors_digest
from tokenrank_guidance.files.pretrained import load_part, load_weights

LAYERS = ("features", "logits")
DEFAULT_LAYER = {"fid": "features", "kid": "features", "prc": "features", "isc": "logits"}


def load_classifier(source: str | Path) -> tuple[Any, Any]:
    """A transformers image classifier (float32, in evaluation mode) and its processor; or ValueError."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = load_weights(AutoModelForImageClassification, source, dtype=torch.float32)
    return model.eval(), load_part(AutoImageProcessor, source)


def register_vit_extractor(model: Any, processor: Any) -> str:
    """Make a classifier known to torch-fidelity while the program runs; returns its name there.

    Input: uint8 (batch, 3, h, w) of any size, resized and normalised as `processor` says. Layers: `features`,
    the pooled output or else the CLS token of the final hidden state, for FID, KID and precision-recall;
    `logits` for ISC. The name, `vit-` and a hash of weights and processor, is fit for caches. The model stays
    where it is, so call torch-fidelity with `cuda=False`.
    """
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

    name = f"vit-{_fingerprint(model, processor)}"
    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(name, _extractor(model, processor))
    return name


def classifier_outputs(
    model: Any, processor: Any, images: UInt8[Tensor, "batch 3 h w"]
) -> dict[str, Float[Tensor, "batch _"]]:
    """The layers of `register_vit_extractor` for one batch, in one pass, on the CPU in float32."""
    seen: list[Any] = []
    pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
    handle = model.base_model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.no_grad(), _evaluating(model):
            logits = model(pixel_values=pixels.to(model.device, model.dtype)).logits
    finally:
        handle.remove()
    pooled = getattr(seen[0], "pooler_output", None)
    features = seen[0].last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
    return {"features": features.float().cpu(), "logits": logits.float().cpu()}


def _extractor(model: Any, processor: Any) -> type:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class ClassifierExtractor(FeatureExtractorBase):
        """torch-fidelity makes one of these for each call, freezes and moves it: so it has no parameters."""

        def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return LAYERS

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return DEFAULT_LAYER[metric]

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:  # noqa: A002  torch-fidelity's name
            outputs = classifier_outputs(model, processor, input)
            return tuple(outputs[layer] for layer in self.features_list)

    return ClassifierExtractor


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _fingerprint(model: Any, processor: Any) -> str:
    return tensors_digest(model.state_dict().items(), processor.to_json_string().encode())[:16]
