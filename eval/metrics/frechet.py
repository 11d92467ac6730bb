"""The Fréchet distance between two sets of images, by torch-fidelity.

‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of the features' means and covariances. Of Inception's features
it is FID; of any other network's it is another number on another scale, and bears another name.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from eval.metrics.vit_extractor import register_vit_extractor
from tokenrank_guidance.files.digest import file_digest

# Of weights-inception-2015-12-05-6726825d.pth in torch-fidelity's release 0.2.0; pytorch-fid publishes the
# same file as pt_inception-2015-12-05-6726825d.pth.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def frechet_vit(
    images_a: Dataset, images_b: Dataset, model: Any, processor: Any, batch_size: int = 64
) -> dict[str, float]:
    """`{"frechet_vit": distance}` on a classifier's own features; the data sets hold uint8 (3, h, w) tensors.

    Symmetric. It is not FID, and only comparable between sets of one size measured with one model.
    """
    name = register_vit_extractor(model, processor)
    options = {"feature_extractor": name, "cuda": False, "batch_size": batch_size}
    return {"frechet_vit": _distance(images_a, images_b, options)}


def fid_inception(
    images_a: Dataset, images_b: Dataset, weights: Path, batch_size: int = 64
) -> dict[str, float]:
    """`{"fid": distance}` on Inception's 2,048 features, its weights read from torch-fidelity's own file.

    Raises ValueError, before the file is unpickled, if its SHA-256 is not that of the published one.
    """
    check_inception(weights)
    options = {
        "feature_extractor": "inception-v3-compat",
        "feature_extractor_weights_path": str(weights),
        "cuda": torch.cuda.is_available(),
        "batch_size": batch_size,
    }
    return {"fid": _distance(images_a, images_b, options)}


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


def _distance(images_a: Dataset, images_b: Dataset, options: dict[str, object]) -> float:
    import torch_fidelity

    # `save_cpu_ram` means no forked workers; no cache, since that is keyed by names and not by contents.
    with redirect_stdout(sys.stderr):
        metrics = torch_fidelity.calculate_metrics(
            input1=images_a,
            input2=images_b,
            fid=True,
            verbose=False,
            save_cpu_ram=True,
            cache=False,
            **options,
        )
    return metrics[torch_fidelity.KEY_METRIC_FID]
