"""What generated images are compared with: real images, or statistics of their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from eval.data import open_images
from eval.fidelity.cache import features_of
from eval.fidelity.extractor import Extractor
from eval.fidelity.images import Reference
from eval.fidelity.statistics import Gaussian, gaussian_of

SHIPPED, STATISTICS = "shipped", ".safetensors"
FOLDER = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Real:
    """The reference's statistics, and its features where the images themselves are at hand."""

    gaussian: Gaussian
    features: Float[Tensor, "r d"] | None


def find_reference(source: str, extractor: Extractor, side: int | None) -> Gaussian | Reference:
    """Statistics (`FILE.safetensors`, or "shipped"), or a source of images as `open_images` opens it.

    Raises ValueError for statistics of another extractor or image size, and where there are none.
    """
    if source == SHIPPED:
        return _shipped(extractor, side)
    if source.endswith(STATISTICS):
        return _fitting(Path(source), extractor, side)
    return reference_images(source, side)


def read_reference(found: Gaussian | Reference, extractor: Extractor, cache: Path) -> Real:
    """Its statistics and, of images, their features; ValueError for images that cannot be read."""
    if isinstance(found, Gaussian):
        return Real(found, None)
    features = features_of(found, extractor, cache)["features"]
    return Real(gaussian_of(features, about(found, extractor)), features)


def reference_images(source: str, side: int | None, limit: int | None = None) -> Reference:
    """All images of a source, or the first `limit`."""
    opened = open_images(source, limit=limit)
    return Reference(opened, range(len(opened)), side)


def about(images: Reference, extractor: Extractor) -> dict[str, Any]:
    return {
        "source": images.source.name,
        "n": len(images),
        "side": images.side,
        "sha256": images.digest,
        "extractor": extractor.identity,
    }


def _fitting(path: Path, extractor: Extractor, side: int | None) -> Gaussian:
    gaussian = Gaussian.load(path)
    problem = _misfit(gaussian, extractor, side)
    if problem:
        raise ValueError(f"{path} {problem}")
    return gaussian


def _misfit(gaussian: Gaussian, extractor: Extractor, side: int | None) -> str | None:
    theirs, width = gaussian.about.get("extractor"), gaussian.about.get("side")
    if theirs != extractor.identity:
        return f"holds statistics of the extractor {theirs}; this one is {extractor.identity}"
    if side is not None and width != side:
        return f"holds statistics of images of {width} pixels; expected {side}"
    return None


def _shipped(extractor: Extractor, side: int | None) -> Gaussian:
    """Those of images of `side` pixels; of the largest for None: that is the size the images have."""
    files = {path: Gaussian.load(path) for path in sorted(FOLDER.glob("*.safetensors"))}
    fitting = [one for one in files.values() if _misfit(one, extractor, side) is None]
    if fitting:
        return max(fitting, key=lambda one: one.about["side"])
    known = "; ".join(f"{path.name} {_misfit(one, extractor, side)}" for path, one in files.items())
    raise ValueError(f"no shipped statistics fit: {known or 'none are installed'}")
