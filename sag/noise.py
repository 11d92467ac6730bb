"""How noisy the denoiser's input is at a step, read off the scheduler.

Every denoiser here sees x = α·x₀ + σ·ε. Schedulers of the variance-exploding kind (Euler, Heun, LMS) scale
their sample by 1/√(s² + 1) before the call, s being their sigma. That makes it variance-preserving again with
α² = 1/(s² + 1); so two formulas, and one for rectified flow, serve all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tokenrank_guidance.errors import UnsupportedError


@dataclass(frozen=True)
class NoiseLevel:
    """The input is x = alpha·x₀ + sigma·ε; `prediction` names what the denoiser predicts from it.

    alpha + sigma is 1 for rectified `flow`, else alpha² + sigma² is.
    """

    alpha: float
    sigma: float
    prediction: str
    flow: bool = False


@dataclass(frozen=True)
class SamplingStep:
    """Where a denoiser call stands: `index` into the scheduler's timesteps, step `number` of `total`.

    A second-order scheduler calls the denoiser twice in one step. `timestep` is the scheduler's own.
    """

    index: int
    number: int
    total: int
    timestep: float


def _from_table(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α² = ᾱ_t (DDPM, DDIM, PNDM, LCM: the sample itself is variance-preserving)."""
    alpha2 = scheduler.alphas_cumprod[int(step.timestep)].item()
    return NoiseLevel(math.sqrt(alpha2), math.sqrt(1 - alpha2), scheduler.config.prediction_type)


def _from_sigmas(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α² = 1/(s² + 1) with s the scheduler's sigma; α = 1 − s where it was told to use flow sigmas."""
    sigma = scheduler.sigmas[step.index].item()
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return NoiseLevel(1 - sigma, sigma, scheduler.config.prediction_type, flow=True)
    scale = math.hypot(sigma, 1.0)
    return NoiseLevel(1 / scale, sigma / scale, scheduler.config.prediction_type)


def _from_flow(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α = 1 − σ (rectified flow)."""
    if scheduler.config.invert_sigmas:
        raise UnsupportedError("cannot guide with invert_sigmas: there sigma is the signal's share")
    sigma = scheduler.sigmas[step.index].item()
    return NoiseLevel(1 - sigma, sigma, "flow_prediction", flow=True)


Formula = Callable[[Any, SamplingStep], NoiseLevel]
SCHEDULERS: dict[str, Formula] = {
    "DDIMScheduler": _from_table,
    "DDPMScheduler": _from_table,
    "PNDMScheduler": _from_table,
    "LCMScheduler": _from_table,
    "DPMSolverMultistepScheduler": _from_sigmas,
    "DPMSolverSinglestepScheduler": _from_sigmas,
    "UniPCMultistepScheduler": _from_sigmas,
    "DEISMultistepScheduler": _from_sigmas,
    "EulerDiscreteScheduler": _from_sigmas,
    "EulerAncestralDiscreteScheduler": _from_sigmas,
    "HeunDiscreteScheduler": _from_sigmas,
    "LMSDiscreteScheduler": _from_sigmas,
    "FlowMatchEulerDiscreteScheduler": _from_flow,
}
INTERPOLATED = "its second call uses interpolated noise levels that its timesteps do not tell"
PRECONDITIONED = "EDM scales inputs and outputs by its own preconditioning"
REFUSED: dict[str, str] = {
    "KDPM2DiscreteScheduler": INTERPOLATED,
    "KDPM2AncestralDiscreteScheduler": INTERPOLATED,
    "DPMSolverSDEScheduler": INTERPOLATED,
    "EDMEulerScheduler": PRECONDITIONED,
    "EDMDPMSolverMultistepScheduler": PRECONDITIONED,
}


def noise_formula(scheduler: object) -> Formula:
    """The formula for a scheduler's class; raises UnsupportedError, with the reason, where there is none."""
    name = type(scheduler).__name__
    if name not in SCHEDULERS:
        reason = REFUSED.get(name, "its noise levels are unknown here")
        raise UnsupportedError(f"cannot guide with {name}: {reason}; supported: {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name]


def noise_level(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """The noise level of the denoiser's input at `step`; raises UnsupportedError for an unknown scheduler."""
    return noise_formula(scheduler)(scheduler, step)


def sampling_step(scheduler: Any, timestep: float) -> SamplingStep:
    """Find a denoiser call's place in the scheduler's timesteps.

    The scheduler's own step index decides where it has one (PNDM calls it `counter`), since a timestep may
    occur twice (Heun, PNDM, rounded Karras steps) or come rounded to bfloat16. Raises ValueError for a
    timestep that is not in the schedule.
    """
    timesteps, order = scheduler.timesteps, getattr(scheduler, "order", 1)
    nearest = int((timesteps.float() - timestep).abs().argmin())
    own = (getattr(scheduler, name, None) for name in ("step_index", "counter", "begin_index"))
    for index in (*own, nearest):
        if index is not None and index < len(timesteps) and _near(timesteps[index].item(), timestep):
            total = math.ceil(len(timesteps) / order)
            return SamplingStep(int(index), int(index) // order, total, timesteps[index].item())
    raise ValueError(
        f"the denoiser was called at timestep {timestep:g}, which is not among the scheduler's "
        f"{len(timesteps)} timesteps; call scheduler.set_timesteps first, or disable guidance"
    )


def _near(scheduled: float, called: float) -> bool:
    # FLUX passes t/1000: rounded to bfloat16 twice, each time by up to 1/256.
    return abs(scheduled - called) <= 0.51 + abs(scheduled) / 128


def scalar_timestep(timestep: torch.Tensor | float, scale: float) -> float:
    """The one timestep of a call, in the scheduler's units; raises ValueError if the batch mixes several.

    Where each token has its own, tokens that are given and not drawn have a smaller one: the largest counts.
    """
    if not isinstance(timestep, torch.Tensor):
        return float(timestep) * scale
    values = (timestep.flatten(1).amax(1) if timestep.ndim > 1 else timestep.flatten()).tolist()
    if any(value != values[0] for value in values):
        raise ValueError(f"guidance needs one timestep for the whole batch, got {values}")
    return float(values[0]) * scale
