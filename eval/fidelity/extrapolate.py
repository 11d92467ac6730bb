"""FID∞: what the Fréchet distance tends to as the number of images grows (Chong and Forsyth 2020)."""

from __future__ import annotations

import numpy as np

from eval.fidelity.extractor import Features
from eval.fidelity.metrics import Frechet, Subset
from eval.fidelity.resampling import Estimate, jackknife_groups

PARTS, GROUPS = (1, 2, 3, 4, 5), 10
T = 2.2621571628  # Student's 97.5 % quantile, 9 degrees of freedom
FEWEST = 2 * PARTS[-1] * GROUPS
JACKKNIFE = "delete-a-group jackknife"


def extrapolate(metric: Frechet, generated: Features, seed: int = 0) -> Estimate:
    """The intercept of FID over 1/N, a straight line through N = n, n/2 … n/5, each the mean over the parts.

    The interval: θ ± t √((g − 1)/g Σ (θ_(j) − θ̄)²) with g = 10 groups left out in turn, t of Student's
    distribution with g − 1 degrees of freedom. The reference's own
    number of images adds a bias that no number of generated ones takes away.
    """
    n = len(generated["features"])
    if n < FEWEST:
        raise ValueError(f"to extrapolate takes at least {FEWEST} images, got {n}")
    order = np.random.default_rng(seed).permutation(n)
    groups = jackknife_groups(n, GROUPS, seed)
    left = np.array([_intercept(metric, generated, subset) for subset in groups])
    value = _intercept(metric, generated, order)
    reach = T * float(np.sqrt((GROUPS - 1) / GROUPS * ((left - left.mean()) ** 2).sum()))
    return Estimate(value, value - reach, value + reach, n, method=JACKKNIFE)


def _intercept(metric: Frechet, generated: Features, order: Subset) -> float:
    parts = [part for count in PARTS for part in np.array_split(order, count)]
    sizes = np.array([len(part) for part in parts])
    weights = np.repeat([1 / count for count in PARTS], PARTS)  # each number of parts counts once
    distances = metric.of_subsets(generated, parts)["fid"]
    return float(np.polyfit(1 / sizes, distances, 1, w=np.sqrt(weights))[1])
