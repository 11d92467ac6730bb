"""What the metrics are computed on: Inception's features, or a classifier's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from eval.fidelity.choices import DOWNLOADED, INCEPTION, VIT, WITHOUT_WEIGHTS, unknown_extractor
from eval.metrics.frechet import check_inception, fetched_inception
from eval.metrics.vit_extractor import load_classifier, register_vit_extractor
from tokenrank_guidance.files.digest import joint_digest

STAND_IN = (
    "Fréchet-ViT, KID-ViT and the like are computed on an ImageNet ViT's features, not on Inception's: they "
    "stand in for FID, rank arms measured alike, and compare with no published number."
)
Features = dict[str, Float[Tensor, "n _"]]
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
BATCH = 64  # torch-fidelity's own: with another one the features differ by rounding


@dataclass(frozen=True)
class Extractor:
    """An extractor of torch-fidelity by its registered `name`, with its layers of features and of logits.

    `identity` is a hash of its weights and of how it prepares images; `suffix` marks the metrics' names.
    """

    name: str
    identity: str
    suffix: str
    features: str
    logits: str
    options: dict[str, Any]
    classifier: tuple[Any, Any] | None = None

    def __call__(self, images: Dataset) -> Features:
        """`{"features", "logits"}` of every image, by torch-fidelity."""
        from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

        cuda = self.options["cuda"]
        settings = {"verbose": False, **self.options}
        network = create_feature_extractor(self.name, [self.features, self.logits], **settings)
        found = get_featuresdict_from_dataset(images, network, BATCH, cuda, save_cpu_ram=True, verbose=True)
        return {"features": found[self.features].float(), "logits": found[self.logits].float()}

    @property
    def is_stand_in(self) -> bool:
        return bool(self.suffix)

    def label(self, metric: str) -> str:
        """What a metric is called on these features: fid, or frechet_vit; isc, or isc_vit."""
        if not self.is_stand_in:
            return metric
        return f"{'frechet' if metric == 'fid' else metric}{self.suffix}"


def open_extractor(text: str, weights: Path | None = None, device: str = "cpu") -> Extractor:
    """Read `inception` (with its weights' file), `inception-download`, or `vit:PATH`.

    Raises ValueError for another text, for Inception without weights, and for weights that are not those
    which torch-fidelity publishes.
    """
    if text.startswith(VIT):
        return vit_extractor(text.removeprefix(VIT), device)
    wrong = unknown_extractor(text)
    if wrong is not None:
        raise ValueError(wrong)
    if text == INCEPTION:
        if weights is None:
            raise ValueError(WITHOUT_WEIGHTS)
        check_inception(weights)
    path = fetched_inception() if text == DOWNLOADED else weights
    options = {"feature_extractor_weights_path": str(path), "cuda": device.startswith("cuda")}
    return Extractor("inception-v3-compat", "inception-2015-12-05", "", "2048", "logits_unbiased", options)


def vit_extractor(source: str, device: str = "cpu") -> Extractor:
    """A transformers image classifier as extractor; ValueError where there is none."""
    if not Path(source).is_dir() and not HUB_ID.fullmatch(source):
        raise ValueError(
            f"no image classifier is at {source}; expected a transformers folder, or a Hub id OWNER/NAME"
        )
    model, processor = load_classifier(source)
    return extractor_of(model.to(device), processor)


def extractor_of(model: Any, processor: Any) -> Extractor:
    """The extractor of a loaded classifier; it stays on the device where it is."""
    name = register_vit_extractor(model, processor)
    options = {"cuda": False}
    return Extractor(
        name, _identity(model, processor), "_vit", "features", "logits", options, (model, processor)
    )


def _identity(model: Any, processor: Any) -> str:
    """Like the registered name, but of what a processor does and not of how a version spells its settings."""
    size = processor.size
    height, width = (size[key] if key in size else size["shortest_edge"] for key in ("height", "width"))
    prepared = (
        height,
        width,
        int(processor.resample),
        tuple(processor.image_mean),
        tuple(processor.image_std),
    )
    weights = (
        (name, tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in sorted(model.state_dict().items())
    )
    return f"vit-{joint_digest([prepared, *(joint_digest(pair) for pair in weights)])[:16]}"
