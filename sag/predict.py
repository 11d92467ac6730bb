"""From a denoiser's raw output to the clean sample and the noise it implies, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sag.noise import NoiseLevel
from tokenrank_guidance.errors import UnsupportedError

Sample = Float[Tensor, "batch *sample"]


def _epsilon(x: Sample, output: Sample, alpha: float, sigma: float) -> tuple[Sample, Sample]:
    return (x - sigma * output) / alpha, output


def _sample(x: Sample, output: Sample, alpha: float, sigma: float) -> tuple[Sample, Sample]:
    return output, (x - alpha * output) / sigma


def _velocity(x: Sample, output: Sample, alpha: float, sigma: float) -> tuple[Sample, Sample]:
    return alpha * x - sigma * output, alpha * output + sigma * x


def _flow(x: Sample, output: Sample, alpha: float, sigma: float) -> tuple[Sample, Sample]:
    return x - sigma * output, x + alpha * output


@dataclass(frozen=True)
class Prediction:
    """`split` gives (x̂₀, ε̂) of (x, output, α, σ) at a level that `fits`, as `condition` says in words.

    `slope` is ∂output/∂x̂₀ of (α, σ) at a fixed x.
    """

    split: Callable[[Sample, Sample, float, float], tuple[Sample, Sample]]
    slope: Callable[[float, float], float]
    fits: Callable[[NoiseLevel], bool]
    condition: str


PREDICTIONS: dict[str, Prediction] = {
    "epsilon": Prediction(
        _epsilon,
        lambda alpha, sigma: -alpha / sigma,
        lambda level: level.alpha > 0,
        "alpha > 0, so no zero terminal SNR",
    ),
    "sample": Prediction(_sample, lambda alpha, sigma: 1.0, lambda level: level.sigma > 0, "sigma > 0"),
    "v_prediction": Prediction(
        _velocity, lambda alpha, sigma: -1 / sigma, lambda level: not level.flow, "use_flow_sigmas=False"
    ),
    "flow_prediction": Prediction(
        _flow, lambda alpha, sigma: -1 / sigma, lambda level: level.flow, "use_flow_sigmas=True"
    ),
}


def predict(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    """(x̂₀, ε̂) with x = α·x̂₀ + σ·ε̂ exactly, for any prediction type.

    ε: x̂₀ = (x − σε̂)/α. x₀: ε̂ = (x − αx̂₀)/σ. v: x̂₀ = αx − σv, ε̂ = αv + σx. Flow: x̂₀ = x − σu, ε̂ = x + αu.
    Raises UnsupportedError for another prediction type, and for a noise level where its formula is wrong.
    """
    return _known(level).split(x, output, level.alpha, level.sigma)


def output_slope(level: NoiseLevel) -> float:
    """∂output/∂x̂₀ at a fixed x: −α/σ for ε, 1 for x₀, −1/σ for v and flow.

    Raises UnsupportedError as `predict` does.
    """
    return _known(level).slope(level.alpha, level.sigma)


def _known(level: NoiseLevel) -> Prediction:
    if level.prediction not in PREDICTIONS:
        known = ", ".join(PREDICTIONS)
        raise UnsupportedError(f"prediction type {level.prediction!r} is not supported; expected {known}")
    prediction = PREDICTIONS[level.prediction]
    if not prediction.fits(level):
        raise UnsupportedError(
            f"the scheduler's prediction type is {level.prediction!r} at alpha {level.alpha:g}, sigma "
            f"{level.sigma:g}; expected {prediction.condition}: change the type or the schedule"
        )
    return prediction


def renoise(clean: Sample, noise: Sample, level: NoiseLevel) -> Sample:
    """α·x₀ + σ·ε: the clean sample at the same noise level again."""
    return level.alpha * clean + level.sigma * noise
