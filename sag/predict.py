"""From a denoiser's raw output to the clean sample and the noise it implies, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sag.noise import NoiseLevel
from tokenrank_guidance.errors import UnsupportedError

Sample = Float[Tensor, "batch *sample"]


def _epsilon(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    return (x - level.sigma * output) / level.alpha, output


def _sample(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    return output, (x - level.alpha * output) / level.sigma


def _velocity(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    return level.alpha * x - level.sigma * output, level.alpha * output + level.sigma * x


def _flow(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    return x - level.sigma * output, x + level.alpha * output


def _consistency(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    skip, out = level.weights
    return _sample(x, skip * x + out * output, level)


@dataclass(frozen=True)
class Prediction:
    """`split` gives (x̂₀, ε̂) of (x, output, level) at a level that `fits`, as `condition` says in words.

    `slope` is ∂output/∂x̂₀ of the level at a fixed x.
    """

    split: Callable[[Sample, Sample, NoiseLevel], tuple[Sample, Sample]]
    slope: Callable[[NoiseLevel], float]
    fits: Callable[[NoiseLevel], bool]
    condition: str


PREDICTIONS: dict[str, Prediction] = {
    "epsilon": Prediction(
        _epsilon,
        lambda level: -level.alpha / level.sigma,
        lambda level: level.alpha > 0,
        "alpha > 0, so no zero terminal SNR",
    ),
    "sample": Prediction(_sample, lambda level: 1.0, lambda level: level.sigma > 0, "sigma > 0"),
    "v_prediction": Prediction(
        _velocity, lambda level: -1 / level.sigma, lambda level: not level.flow, "use_flow_sigmas=False"
    ),
    "flow_prediction": Prediction(
        _flow, lambda level: -1 / level.sigma, lambda level: level.flow, "use_flow_sigmas=True"
    ),
    "consistency": Prediction(
        _consistency, lambda level: 1 / level.weights[1], lambda level: level.sigma > 0, "sigma > 0"
    ),
}


def predict(x: Sample, output: Sample, level: NoiseLevel) -> tuple[Sample, Sample]:
    """(x̂₀, ε̂) with x = α·x̂₀ + σ·ε̂ exactly, for any prediction type.

    ε: x̂₀ = (x − σε̂)/α. x₀: ε̂ = (x − αx̂₀)/σ. v: x̂₀ = αx − σv, ε̂ = αv + σx. Flow: x̂₀ = x − σu, ε̂ = x + αu.
    Consistency: x̂₀ = w₁x + w₂·output. Raises UnsupportedError for another prediction type, and for a noise
    level where its formula is wrong.
    """
    return _known(level).split(x, output if level.sign > 0 else -output, level)


def output_slope(level: NoiseLevel) -> float:
    """∂output/∂x̂₀ at a fixed x: −α/σ for ε, 1 for x₀, −1/σ for v and flow, 1/w₂ for consistency.

    Raises UnsupportedError as `predict` does.
    """
    return level.sign * _known(level).slope(level)


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
