"""From the name of a model to a classifier of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from eval.masking.classifier import Classifier, HeadedClassifier, LinearProbe, PromptClassifier
from eval.preprocess import Preprocessing, of_processor, of_timm
from tokenrank_guidance.files.hub import is_timm
from tokenrank_guidance.files.pretrained import load_part, load_timm, load_weights
from tokenrank_guidance.files.reading import parse_json
from tokenrank_guidance.files.tensors import load_tensors
from tokenrank_guidance.quiet import quiet_libraries

BY_TEXT = ("CLIPModel", "SiglipModel")
PROMPT = "a photo of a {}."


@dataclass(frozen=True)
class ClassifierChoice:
    """Which model: `name` is a folder or Hub name (transformers, or timm's: `timm/NAME`).

    `head`: a safetensors file for a backbone without a head. `classes`: names to tell apart by their text,
    for CLIP and SigLIP. `resize`: the short side before the crop, by default the model's own, else 248/224 of
    it.
    """

    name: str
    head: Path | None = None
    classes: Sequence[str] = ()
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    resize: int | None = None


def load_classifier(choice: ClassifierChoice) -> tuple[Classifier, Preprocessing]:
    """The classifier, in evaluation mode, and how its pictures are prepared.

    Raises ValueError for a model that is not there, or that neither classifies nor was given a head or text.
    """
    with quiet_libraries():
        classifier, preprocessing = _load(choice)
    if choice.resize is not None:
        if choice.resize < min(preprocessing.size):
            raise ValueError(f"resize to {choice.resize} does not cover the crop of {preprocessing.size}")
        preprocessing = replace(preprocessing, enlarged=choice.resize / min(preprocessing.size))
    return classifier, preprocessing


def _load(choice: ClassifierChoice) -> tuple[Classifier, Preprocessing]:
    if is_timm(choice.name):
        return _load_timm(choice)
    from transformers import AutoConfig, AutoImageProcessor

    architecture = (load_part(AutoConfig, choice.name).architectures or [""])[0]
    processor = load_part(AutoImageProcessor, choice.name, use_fast=False)
    headed = architecture.endswith("ForImageClassification") or architecture in BY_TEXT
    if headed and choice.head is not None:
        raise ValueError(f"--head would have no effect: {choice.name} holds {architecture}, which classifies")
    if architecture.endswith("ForImageClassification"):
        classifier = _load_headed(choice)
    elif architecture in BY_TEXT:
        classifier = _load_by_text(choice)
    else:
        classifier = _load_probe(choice, _transformers_backbone(choice))
    return classifier, of_processor(processor)


def _load_headed(choice: ClassifierChoice) -> Classifier:
    from transformers import AutoModelForImageClassification

    model = load_weights(AutoModelForImageClassification, choice.name, dtype=choice.dtype)
    names = model.config.id2label
    return HeadedClassifier(_ready(model, choice), [names[i] for i in range(len(names))])


def _transformers_backbone(choice: ClassifierChoice) -> nn.Module:
    from transformers import AutoModel

    return load_weights(AutoModel, choice.name, dtype=choice.dtype)


def _load_timm(choice: ClassifierChoice) -> tuple[Classifier, Preprocessing]:
    model: Any = load_timm(choice.name)
    if model.num_classes == 0 or choice.head is not None:
        return _load_probe(choice, model), of_timm(model)
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    return HeadedClassifier(_ready(model, choice), names or imagenet_labels(model.num_classes)), of_timm(
        model
    )


def _load_probe(choice: ClassifierChoice, backbone: nn.Module) -> LinearProbe:
    if choice.head is None:
        raise ValueError(
            f"{choice.name} holds {type(backbone).__name__}, which does not classify: give its linear head "
            "with --head FILE.safetensors (weight and bias)"
        )
    weight, bias, names = read_head(choice.head)
    weight, bias = weight.to(choice.device), bias.to(choice.device)
    return LinearProbe(_ready(backbone, choice), names, weight, bias, _prefix(backbone))


def read_head(path: Path) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, " classes"], Sequence[str]]:
    """`weight` (classes, dim), `bias` (classes; zero if absent) and the names of the classes.

    The names are the file's metadata entry `labels`, a JSON list; without it 1,000 classes are ImageNet's.
    Raises ValueError for another file.
    """
    tensors, metadata = load_tensors(path)
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    weight = tensors.get("weight")
    if weight is None or weight.ndim != 2:
        raise ValueError(
            f"{path} has no weight of (classes, dim): it holds {', '.join(tensors) or 'nothing'}"
        )
    bias = tensors.get("bias", weight.new_zeros(len(weight)))
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"{path} has a bias of {tuple(bias.shape)} for {len(weight)} classes")
    return weight, bias, _labels(path, metadata.get("labels"), len(weight))


def _labels(path: Path, listed: str | None, classes: int) -> Sequence[str]:
    if listed is None:
        return imagenet_labels(classes)
    names = parse_json(listed, f"the metadata entry labels of {path}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} names its labels by {listed[:40]!r}; expected a JSON list of texts")
    if len(names) != classes:
        raise ValueError(f"{path} names {len(names)} labels for {classes} classes")
    return names


def imagenet_labels(classes: int) -> Sequence[str]:
    """The 1,000 classes of ImageNet by their descriptions; ValueError for another number of classes."""
    from timm.data import ImageNetInfo

    names = ImageNetInfo()
    if classes != names.num_classes():
        raise ValueError(
            f"the names of {classes} classes are not known: expected ImageNet's {names.num_classes()}, or "
            "names with the model (label_names) or its head (metadata entry labels)"
        )
    return [names.index_to_description(i) for i in range(classes)]


def _load_by_text(choice: ClassifierChoice) -> PromptClassifier:
    from transformers import AutoModel, AutoTokenizer

    if not choice.classes:
        raise ValueError(f"{choice.name} classifies by text: give the names of the classes")
    model = _ready(load_weights(AutoModel, choice.name, dtype=choice.dtype), choice)
    tokenizer = load_part(AutoTokenizer, choice.name)
    prompts = [PROMPT.format(name.replace("_", " ")) for name in choice.classes]
    # SigLIP has learnt on texts padded to its full length, and CLIP's mask leaves padding out.
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").to(choice.device)
    with torch.inference_mode():
        texts = model.get_text_features(**tokens).pooler_output
    return PromptClassifier(model, list(choice.classes), F.normalize(texts.float(), dim=-1))


def _ready(model: Any, choice: ClassifierChoice) -> Any:
    return model.eval().to(choice.device, choice.dtype)


def _prefix(backbone: nn.Module) -> int:
    """How many tokens precede the patches."""
    own = getattr(backbone, "num_prefix_tokens", None)  # timm
    return 1 + getattr(getattr(backbone, "config", None), "num_register_tokens", 0) if own is None else own
