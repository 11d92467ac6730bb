"""Features computed once: kept under a hash of the images and of the extractor, so never stale."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

from torch import Tensor

from eval.fidelity.extractor import BATCH, Extractor, Features
from eval.fidelity.images import Uniform
from tokenrank_guidance.files.digest import joint_digest
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole
from tokenrank_guidance.messages import say


def features_of(images: Any, extractor: Extractor, folder: Path) -> Features:
    """The features of `images` (a data set with a `digest`), from the cache if they are there.

    A file that is damaged or holds another number of images is computed anew.
    """
    path = folder / f"{joint_digest((images.digest, extractor.name, BATCH))[:32]}.safetensors"
    kept = _kept(path, len(images))
    if kept is not None:
        return kept
    features = extractor(Uniform(images))
    write_whole(path, lambda scratch: save_tensors(features, scratch))
    return features


def _kept(path: Path, count: int) -> Features | None:
    if not path.is_file():
        return None
    try:
        features, _ = load_tensors(path)
    except ValueError:
        features = {}
    if features.keys() == {"features", "logits"} and all(map(_is_whole, features.values(), repeat(count))):
        return features
    say(f"warning: the cached features in {path} are damaged and are computed anew")
    return None


def _is_whole(tensor: Tensor, count: int) -> bool:
    return tensor.ndim == 2 and len(tensor) == count and tensor.is_floating_point()
