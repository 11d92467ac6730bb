"""FID, IS, KID, precision, recall and accuracy: torch-fidelity's numbers, and the same of many subsets.

`value` is what torch-fidelity reports for a set of generated images. `of_subsets` evaluates the statistic on
many subsets of one pool of images, which resampling needs, without going through torch-fidelity each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eval.fidelity.extractor import Features
from eval.fidelity.statistics import Gaussian
from tokenrank_guidance.interval import Interval, wilson

Values = dict[str, float]
Subset = Int[np.ndarray, " m"]
Series = dict[str, Float[np.ndarray, " subsets"]]
BLOCK = 1024  # rows of a distance or kernel matrix in memory at a time
SUBSETS, SUBSET_SIZE, SPLITS, NEIGHBOURS, LISTED = 100, 1000, 10, 3, 64


class Metric(Protocol):
    """One metric against a fixed reference; `names` are the figures it gives, before any suffix.

    `fewest`: how many images it takes; with fewer it is not defined, or says nothing.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def fewest(self) -> int: ...

    def value(self, generated: Features) -> Values:
        """torch-fidelity's figures for a set."""
        ...

    def of_subsets(self, pool: Features, subsets: Sequence[Subset]) -> Series:
        """The figures of each subset, given as indices into the pool."""
        ...


class Frechet:
    """‖μ_g − μ_r‖² + tr(Σ_g + Σ_r − 2 (Σ_g Σ_r)^½): FID on Inception's features (Heusel et al. 2017)."""

    names, fewest = ("fid",), 2  # a covariance

    def __init__(self, reference: Gaussian) -> None:
        self.reference = reference

    def value(self, generated: Features) -> Values:
        from torch_fidelity.metric_fid import (
            KEY_METRIC_FID,
            fid_features_to_statistics,
            fid_statistics_to_metric,
        )

        own = fid_features_to_statistics(generated["features"])
        distance = fid_statistics_to_metric(own, self.reference.to_torch_fidelity(), verbose=False)
        return {"fid": distance[KEY_METRIC_FID]}

    def of_subsets(self, pool: Features, subsets: Sequence[Subset]) -> Series:
        features = pool["features"].double().numpy()
        return {"fid": np.array([self._distance(features[subset]) for subset in subsets])}

    @cached_property
    def _root(self) -> Float[np.ndarray, "d d"]:
        values, vectors = np.linalg.eigh(self.reference.covariance)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    def _distance(self, features: Float[np.ndarray, "m d"]) -> float:
        """As torch-fidelity's up to rounding, by a symmetric root: tr(ΣΣ_r)^½ = tr(Σ_r^½ Σ Σ_r^½)^½."""
        own = Gaussian.of(features)
        roots = np.sqrt(np.linalg.eigvalsh(self._root @ own.covariance @ self._root).clip(0))
        shift = own.mean - self.reference.mean
        traces = np.trace(own.covariance) + np.trace(self.reference.covariance)
        return float(shift @ shift + traces - 2 * roots.sum())


class Score:
    """exp(E KL(p(y|x) ‖ p(y))), mean over ten parts: the Inception Score (Salimans et al. 2016).

    Of subsets, which are halves, the mean over five parts, as large as the ten of the whole: with parts half
    as large, whose score is biased otherwise, intervals held the truth 88 to 91 % of the time.
    """

    names, fewest = ("isc",), 2 * SPLITS  # a part of one image has the score 1, whatever it shows

    def value(self, generated: Features) -> Values:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

        return {"isc": isc_features_to_metric(generated["logits"], splits=SPLITS)[KEY_METRIC_ISC_MEAN]}

    def of_subsets(self, pool: Features, subsets: Sequence[Subset]) -> Series:
        logs = pool["logits"].double().log_softmax(-1)
        p = logs.exp()
        negative_entropy = (p * logs).sum(-1).numpy()
        chances = p.float().numpy()
        return {"isc": np.array([_score(chances[s], negative_entropy[s]) for s in subsets])}


def _score(p: Float[np.ndarray, "m classes"], negative_entropy: Float[np.ndarray, " m"]) -> float:
    ends = np.linspace(0, len(p), SPLITS // 2 + 1).astype(int)
    parts = [slice(first, last) for first, last in pairwise(ends)]
    marginals = (p[part].mean(0, dtype=np.float64) for part in parts)
    crossed = [float((q * np.log(q.clip(1e-300))).sum()) for q in marginals]
    gains = [negative_entropy[part].mean() - own for part, own in zip(parts, crossed, strict=True)]
    return float(np.exp(gains).mean())


class Kernel:
    """The unbiased MMD² with the kernel (xy/d + 1)³: KID (Bińkowski et al. 2018).

    `value` is torch-fidelity's mean over 100 subsets of at most 1,000 images; `of_subsets` the estimate from
    all images of the subset, of which that mean is a noisier version.
    """

    names, fewest = ("kid",), 2  # pairs of different images

    def __init__(self, reference: Float[Tensor, "r d"]) -> None:
        self.reference = reference

    def value(self, generated: Features) -> Values:
        return {"kid": self._torch_fidelity(generated)[0]}

    def extra_variance(self, generated: Features) -> float:
        """The variance of `value` that comes from its random subsets, not from the images."""
        return self._torch_fidelity(generated)[1] ** 2 / SUBSETS

    def of_subsets(self, pool: Features, subsets: Sequence[Subset]) -> Series:
        features = pool["features"].double()
        member = _membership(subsets, len(features)).double()
        own, to_reference = torch.zeros(len(subsets), dtype=torch.float64), []
        for rows in torch.arange(len(features)).split(BLOCK):
            block = _cubic(features[rows], features)
            block[torch.arange(len(rows)), rows] = 0
            own += (member[:, rows].T * (block @ member.T)).sum(0)
            to_reference.append(_cubic(features[rows], self.reference.double()).mean(1))
        m = member.sum(1)
        crossed = member @ torch.cat(to_reference) / m
        return {"kid": (own / (m * (m - 1)) + self._among_reference - 2 * crossed).numpy()}

    @cached_property
    def _among_reference(self) -> float:
        reference, total = self.reference.double(), 0.0
        for rows in torch.arange(len(reference)).split(BLOCK):
            block = _cubic(reference[rows], reference)
            block[torch.arange(len(rows)), rows] = 0
            total += float(block.sum())
        return total / (len(reference) * (len(reference) - 1))

    def _torch_fidelity(self, generated: Features) -> tuple[float, float]:
        from torch_fidelity.metric_kid import (
            KEY_METRIC_KID_MEAN,
            KEY_METRIC_KID_STD,
            kid_features_to_metric,
        )

        features = generated["features"]
        size = min(SUBSET_SIZE, len(features), len(self.reference))
        found = kid_features_to_metric(
            features, self.reference, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False
        )
        return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def _cubic(x: Float[Tensor, "a d"], y: Float[Tensor, "b d"]) -> Float[Tensor, "a b"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _membership(subsets: Sequence[Subset], count: int) -> Bool[Tensor, "subsets pool"]:
    member = torch.zeros(len(subsets), count, dtype=torch.bool)
    for i, subset in enumerate(subsets):
        member[i, torch.from_numpy(subset)] = True
    return member


class PrecisionRecall:
    """Shares inside the other set's 3-nearest-neighbour balls (Kynkäänniemi et al. 2019).

    Precision: of generated images inside the reference's balls; recall: of the reference inside theirs. On
    the extractor's features, where torch-fidelity unless told otherwise takes VGG-16's.
    """

    names, fewest = ("precision", "recall"), NEIGHBOURS + 1

    def __init__(self, reference: Float[Tensor, "r d"]) -> None:
        self.reference = reference

    def value(self, generated: Features) -> Values:
        from torch_fidelity.metric_prc import (
            KEY_METRIC_PRECISION,
            KEY_METRIC_RECALL,
            prc_features_to_metric,
        )

        found = prc_features_to_metric(
            generated["features"],
            self.reference,
            prc_neighborhood=NEIGHBOURS,
            save_cpu_ram=True,
            verbose=False,
        )
        return {"precision": found[KEY_METRIC_PRECISION], "recall": found[KEY_METRIC_RECALL]}

    def of_subsets(self, pool: Features, subsets: Sequence[Subset]) -> Series:
        features = pool["features"]
        member = _membership(subsets, len(features))
        radii = _radii(features, member)
        inside = torch.zeros(len(features), dtype=torch.bool)
        recalled = torch.zeros(len(subsets))
        for rows in torch.arange(len(self.reference)).split(BLOCK):
            distance = torch.cdist(self.reference[rows], features)
            inside |= (distance <= self._radius[rows, None]).any(0)
            for i, radius in enumerate(radii):
                recalled[i] += (distance <= radius).any(1).sum()
        precision = (member.float() @ inside.float()) / member.sum(1)
        return {"precision": precision.numpy(), "recall": (recalled / len(self.reference)).numpy()}

    @cached_property
    def _radius(self) -> Float[Tensor, " r"]:
        """Distance of each reference image to its third neighbour, itself not counted."""
        blocks = (torch.cdist(part, self.reference) for part in self.reference.split(BLOCK))
        return torch.cat([block.kthvalue(NEIGHBOURS + 1).values for block in blocks])


def _radii(
    features: Float[Tensor, "pool d"], member: Bool[Tensor, "subsets pool"]
) -> Float[Tensor, "subsets pool"]:
    """Distance to the third neighbour within each subset; −1, so that nothing is inside, for non-members.

    Neighbours are looked for among the 64 nearest of the pool: in a random half of it, the third is there.
    """
    listed = min(LISTED, len(features) - 1)
    nearest = [_nearest(features, rows, listed) for rows in torch.arange(len(features)).split(BLOCK)]
    distance, neighbour = (torch.cat(parts) for parts in zip(*nearest, strict=True))
    radii = torch.full(member.shape, -1.0)
    for i, own in enumerate(member):
        third = (own[neighbour].cumsum(1) >= NEIGHBOURS).int().argmax(1)
        found = distance.gather(1, third[:, None]).squeeze(1)
        radii[i, own] = found[own]
    return radii


def _nearest(
    features: Float[Tensor, "pool d"], rows: Int[Tensor, " b"], count: int
) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
    distance = torch.cdist(features[rows], features)
    distance[torch.arange(len(rows)), rows] = torch.inf
    found = distance.topk(count, largest=False)
    return found.values, found.indices


class Accuracy:
    """The share of images that a classifier, choosing among the prompts' classes, takes for their prompt's.

    `target` is each image's class, as an index into the logits, −1 for an image whose class it does not have.
    """

    names, fewest = ("accuracy",), 1

    def __init__(self, target: Int[np.ndarray, " n"]) -> None:
        self.target = target
        self.classes = np.unique(target[target >= 0])

    def hits(self, generated: Features) -> Float[np.ndarray, " n"]:
        """1 for right, 0 for wrong, NaN for an image without a class."""
        named = self.classes[generated["logits"].numpy()[:, self.classes].argmax(1)]
        return np.where(self.target < 0, np.nan, (named == self.target).astype(np.float64))

    def value(self, generated: Features) -> Values:
        return {"accuracy": float(np.nanmean(self.hits(generated)))}

    def interval(self, generated: Features) -> Interval:
        """Wilson's interval of the share."""
        hits = self.hits(generated)
        counted = hits[~np.isnan(hits)]
        return wilson(int(counted.sum()), len(counted))


METRICS: dict[str, type[Frechet | Score | Kernel | PrecisionRecall | Accuracy]] = {
    "fid": Frechet,
    "isc": Score,
    "kid": Kernel,
    "prc": PrecisionRecall,
    "accuracy": Accuracy,
}
