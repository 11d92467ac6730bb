"""TrigFlow: pipelines whose scheduler steps angles, and whose denoiser predicts rectified flow.

The scheduler's sample is x = d·(cos t·x₀ + sin t·ε), d being its `sigma_data`, and it is given d·F with
x₀ = cos t·x/d − sin t·F. The denoiser is given y = r·x/d with r = 1/(cos t + sin t), which is
(1 − σ)·x₀ + σ·ε at σ = r·sin t, and predicts v with x₀ = y − σ·v. Then F = ((1 − 2σ)·y + r²·v)/r.
Source: Chen et al. 2025 (SANA-Sprint), arXiv 2503.09641.
"""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sag.noise import NoiseLevel

Sample = Float[Tensor, "batch *sample"]


def angle(sigma: float) -> float:
    """t of σ = sin t / (sin t + cos t)."""
    return math.atan2(sigma, 1 - sigma)


def rectified(level: NoiseLevel) -> NoiseLevel:
    """That of the denoiser's input, of the scheduler's sample's."""
    total = level.alpha + level.sigma
    return NoiseLevel(level.alpha / total, level.sigma / total, "flow_prediction", flow=True)


def denoisers(model_output: Sample, sample: Sample, timestep: Any, unit: float) -> tuple[Sample, Sample]:
    """(v, y), of what the scheduler is given: d·F and x."""
    t = float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)
    r = 1 / (math.cos(t) + math.sin(t))
    y = sample * (r / unit)
    return (model_output * (r / unit) - (1 - 2 * r * math.sin(t)) * y) / r**2, y
