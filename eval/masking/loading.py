"""From the name of a model to a classifier of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from eval.masking.classifier import Classifier, HeadedClassifier, LinearProbe, ZeroShot
from eval.preprocess import Preprocessing, of_processor, of_timm
from tokenrank_guidance.quiet import quiet_libraries

TIMM = "timm/"
BY_TEXT = ("CLIPModel", "SiglipModel")
PROMPT = "a photo of a {}."


@dataclass(frozen=True)
class Request:
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


def load_classifier(request: Request) -> tuple[Classifier, Preprocessing]:
    """The classifier, in evaluation mode, and how its pictures are prepared.

    Raises ValueError for a model that is not there, or that neither classifies nor was given a head or text.
    """
    with quiet_libraries():
        classifier, preprocessing = _load(request)
    if request.resize is not None:
        if request.resize < min(preprocessing.size):
            raise ValueError(f"resize to {request.resize} does not cover the crop of {preprocessing.size}")
        preprocessing = replace(preprocessing, enlarged=request.resize / min(preprocessing.size))
    return classifier, preprocessing


def _load(request: Request) -> tuple[Classifier, Preprocessing]:
    config = _folder_config(request.name)
    if request.name.startswith(TIMM) or "architecture" in config:
        return _load_timm(request)
    from transformers import AutoConfig, AutoImageProcessor

    try:
        architecture = (AutoConfig.from_pretrained(request.name).architectures or [""])[0]
        processor = AutoImageProcessor.from_pretrained(request.name, use_fast=False)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"no model could be loaded from {request.name}: {_first_line(error)}") from error
    headed = architecture.endswith("ForImageClassification") or architecture in BY_TEXT
    if headed and request.head is not None:
        raise ValueError(
            f"--head would have no effect: {request.name} holds {architecture}, which classifies"
        )
    if architecture.endswith("ForImageClassification"):
        classifier = _load_headed(request)
    elif architecture in BY_TEXT:
        classifier = _load_zero_shot(request)
    else:
        classifier = _load_probe(request, _transformers_backbone(request))
    return classifier, of_processor(processor)


def _folder_config(name: str) -> dict[str, Any]:
    path = Path(name) / "config.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _load_headed(request: Request) -> Classifier:
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(request.name, dtype=request.dtype)
    names = model.config.id2label
    return HeadedClassifier(_ready(model, request), [names[i] for i in range(len(names))])


def _transformers_backbone(request: Request) -> nn.Module:
    from transformers import AutoModel

    return AutoModel.from_pretrained(request.name, dtype=request.dtype)


def _load_timm(request: Request) -> tuple[Classifier, Preprocessing]:
    import timm

    local = Path(request.name).is_dir()
    source = f"local-dir:{request.name}" if local else f"hf-hub:{request.name}"
    model: Any = timm.create_model(source, pretrained=True)
    if model.num_classes == 0 or request.head is not None:
        return _load_probe(request, model), of_timm(model)
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    return HeadedClassifier(_ready(model, request), names or imagenet_labels(model.num_classes)), of_timm(
        model
    )


def _load_probe(request: Request, backbone: nn.Module) -> LinearProbe:
    if request.head is None:
        raise ValueError(
            f"{request.name} holds {type(backbone).__name__}, which does not classify: give its linear head "
            "with --head FILE.safetensors (weight and bias)"
        )
    weight, bias, names = read_head(request.head)
    weight, bias = weight.to(request.device), bias.to(request.device)
    return LinearProbe(_ready(backbone, request), names, weight, bias, _prefix(backbone))


def read_head(path: Path) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, " classes"], Sequence[str]]:
    """`weight` (classes, dim), `bias` (classes; zero if absent) and the names of the classes.

    The names are the file's metadata entry `labels`, a JSON list; without it 1,000 classes are ImageNet's.
    Raises ValueError for another file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    weight = tensors.get("weight")
    if weight is None or weight.ndim != 2:
        raise ValueError(
            f"{path} has no weight of (classes, dim): it holds {', '.join(tensors) or 'nothing'}"
        )
    names = json.loads(metadata["labels"]) if "labels" in metadata else imagenet_labels(len(weight))
    if len(names) != len(weight):
        raise ValueError(f"{path} names {len(names)} labels for {len(weight)} classes")
    return weight, tensors.get("bias", weight.new_zeros(len(weight))), names


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


def _load_zero_shot(request: Request) -> ZeroShot:
    from transformers import AutoModel, AutoTokenizer

    if not request.classes:
        raise ValueError(f"{request.name} classifies by text: give the names of the classes")
    model = _ready(AutoModel.from_pretrained(request.name, dtype=request.dtype), request)
    tokenizer = AutoTokenizer.from_pretrained(request.name)
    prompts = [PROMPT.format(name.replace("_", " ")) for name in request.classes]
    # SigLIP has learnt on texts padded to its full length, and CLIP's mask leaves padding out.
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").to(request.device)
    with torch.inference_mode():
        texts = model.get_text_features(**tokens).pooler_output
    return ZeroShot(model, list(request.classes), F.normalize(texts.float(), dim=-1))


def _ready(model: Any, request: Request) -> Any:
    return model.eval().to(request.device, request.dtype)


def _prefix(backbone: nn.Module) -> int:
    """How many tokens precede the patches."""
    own = getattr(backbone, "num_prefix_tokens", None)  # timm
    return 1 + getattr(getattr(backbone, "config", None), "num_register_tokens", 0) if own is None else own


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
