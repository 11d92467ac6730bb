"""The Fréchet distance between two sets of images, by torch-fidelity.

‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of the features' means and covariances. Of Inception's features
it is FID; of any other network's it is another number on another scale, and bears another name.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.files.digest import file_digest

# Of weights-inception-2015-12-05-6726825d.pth in torch-fidelity's release 0.2.0; pytorch-fid publishes the
# same file as pt_inception-2015-12-05-6726825d.pth.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def check_inception(weights: Path) -> None:
    """Raise ValueError unless the file is the one that torch-fidelity publishes."""
    if not weights.is_file():
        raise ValueError(f"there is no file {weights}; expected weights-inception-2015-12-05-6726825d.pth")
    found = file_digest(weights)
    if found != INCEPTION_SHA256:
        raise ValueError(
            f"{weights} is not torch-fidelity's Inception: SHA-256 {found}, expected {INCEPTION_SHA256}"
        )


def fetched_inception() -> Path:
    """The file that torch-fidelity publishes, fetched if it is not in torch's cache; ValueError for another.

    torch-fidelity would fetch it too, but unpickle whatever came.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=INCEPTION_SHA256)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{URL_INCEPTION_V3} could not be fetched: {error}") from error
    check_inception(path)
    return path


def frechet_from_features(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """The distance between two sets of features that were computed before; what they are of names it.

    Raises ValueError for fewer than two of either, or than two dimensions, different numbers of dimensions,
    and what is not finite.
    """
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    for features in (a, b):
        if features.ndim != 2 or min(features.shape) < 2 or features.shape[1] != b.shape[-1]:
            raise ValueError(
                f"features are {tuple(a.shape)} and {tuple(b.shape)}, expected (n ≥ 2, d ≥ 2) each"
            )
        if not torch.isfinite(features).all():
            raise ValueError("features have values that are not finite")
    statistics = [fid_features_to_statistics(features.detach().cpu()) for features in (a, b)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
