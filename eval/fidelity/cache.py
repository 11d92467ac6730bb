"""Features computed once: kept under a hash of the images and of the extractor, so never stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from eval.cli import say
from eval.data.digest import joint_digest
from eval.fidelity.extractor import BATCH, Extractor, Features
from eval.fidelity.images import Uniform
from eval.report import write_whole


def features_of(images: Any, extractor: Extractor, folder: Path) -> Features:
    """The features of `images` (a data set with a `digest`), from the cache if they are there.

    A file that is damaged or holds another number of images is computed anew.
    """
    path = folder / f"{joint_digest((images.digest, extractor.name, BATCH))[:32]}.safetensors"
    kept = _kept(path, len(images))
    if kept is not None:
        return kept
    features = extractor(Uniform(images))
    tensors = {name: tensor.contiguous() for name, tensor in features.items()}
    write_whole(path, lambda scratch: save_file(tensors, scratch))
    return features


def _kept(path: Path, count: int) -> Features | None:
    if not path.is_file():
        return None
    try:
        features = load_file(path)
    except (SafetensorError, OSError):
        features = {}
    if set(features) == {"features", "logits"} and all(len(tensor) == count for tensor in features.values()):
        return features
    say(f"warning: the cached features in {path} are damaged and are computed anew")
    return None
