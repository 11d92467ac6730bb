"""Mean and covariance of a set's features, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tokenrank_guidance.files.reading import parse_json
from tokenrank_guidance.files.tensors import load_tensors, save_tensors
from tokenrank_guidance.files.writing import write_whole

KIND = "fidelity statistics 1"


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance (divided by n − 1); `about` says of which images, by which extractor."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"], about: Mapping[str, Any] | None = None) -> Gaussian:
        """The statistics of features; ValueError for fewer than two images."""
        if len(features) < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {len(features)}")
        return cls(features.mean(0), np.cov(features, rowvar=False), about or {})

    def to_torch_fidelity(self) -> dict[str, np.ndarray]:
        """As torch-fidelity's own: the mean in float32, the covariance in float64."""
        return {"mu": self.mean.astype(np.float32), "sigma": self.covariance.astype(np.float64)}

    def save(self, path: Path) -> None:
        """Write safetensors in float32: `mean`, the upper half of `covariance`, and what they are about."""
        upper = self.covariance[np.triu_indices(len(self.mean))]
        halves = {"mean": self.mean, "covariance": upper}
        tensors = {name: torch.from_numpy(half.astype(np.float32)) for name, half in halves.items()}
        metadata = {"kind": KIND, "about": json.dumps(self.about, sort_keys=True)}
        write_whole(path, lambda scratch: save_tensors(tensors, scratch, metadata))

    @classmethod
    def load(cls, path: Path) -> Gaussian:
        """Read what `save` wrote; ValueError for another file."""
        try:
            mean, upper, about = _checked(*load_tensors(path))
        except ValueError as error:
            raise ValueError(f"{path} does not hold reference statistics: {error}") from error
        covariance = np.zeros((len(mean), len(mean)))
        rows = np.triu_indices(len(mean))
        covariance[rows] = upper
        covariance.T[rows] = upper
        return cls(mean, covariance, about)


def _checked(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " upper"], Mapping[str, Any]]:
    """What a file says, once its parts are known to fit together; ValueError for others."""
    if metadata.get("kind") != KIND:
        raise ValueError(f"it is not marked as {KIND!r}")
    about = parse_json(metadata.get("about", ""), "what it says of the images")
    if not isinstance(about, dict) or tensors.keys() != {"mean", "covariance"}:
        raise ValueError(f"it holds {', '.join(tensors)} and says {about!r} of them")
    mean, upper = (tensors[name].double().numpy() for name in ("mean", "covariance"))
    if mean.ndim != 1 or upper.shape != (len(mean) * (len(mean) + 1) // 2,):
        raise ValueError(f"a mean of {mean.shape} does not go with a covariance's half of {upper.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(upper).all()):
        raise ValueError("it has values that are not finite")
    return mean, upper, about


def gaussian_of(features: torch.Tensor, about: Mapping[str, Any] | None = None) -> Gaussian:
    """The statistics as torch-fidelity takes them, of float32 features."""
    return Gaussian.of(features.numpy(), about)
