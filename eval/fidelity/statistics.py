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

from eval.report import write_whole

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
        from safetensors.numpy import save_file

        upper = self.covariance[np.triu_indices(len(self.mean))]
        tensors = {"mean": self.mean.astype(np.float32), "covariance": upper.astype(np.float32)}
        metadata = {"kind": KIND, "about": json.dumps(self.about, sort_keys=True)}
        write_whole(path, lambda scratch: save_file(tensors, scratch, metadata))

    @classmethod
    def load(cls, path: Path) -> Gaussian:
        """Read what `save` wrote; ValueError for another file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("kind") != KIND:
                    raise ValueError(f"it is not marked as {KIND!r}")
                mean, upper = (file.get_tensor(name).double().numpy() for name in ("mean", "covariance"))
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} does not hold reference statistics: {error}") from error
        covariance = np.zeros((len(mean), len(mean)))
        rows = np.triu_indices(len(mean))
        covariance[rows] = upper
        covariance.T[rows] = upper
        return cls(mean, covariance, json.loads(metadata["about"]))


def gaussian_of(features: torch.Tensor, about: Mapping[str, Any] | None = None) -> Gaussian:
    """The statistics as torch-fidelity takes them, of float32 features."""
    return Gaussian.of(features.numpy(), about)
