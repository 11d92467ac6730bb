"""How noisy the denoiser's input is at a step, read off the scheduler.

Every denoiser here sees x = α·x₀ + σ·ε. Schedulers of the variance-exploding kind (Euler, Heun, LMS) scale
their sample by 1/√(s² + 1) before the call, s being their sigma. That makes it variance-preserving again with
α² = 1/(s² + 1); so two formulas, and one for rectified flow, serve nearly all of them. The others differ in
where their sigma is found, or in the unit of x₀: in which, guidance being linear, it need not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from sag.refused_schedulers import REFUSED, STAGES
from tokenrank_guidance.errors import UnsupportedError

# Of α: bfloat16 rounds it away beside σ ≈ 1. Flow begins at 0, Stable Video Diffusion at 0.0014.
NOISE_ALONE = 2**-9


@dataclass(frozen=True)
class NoiseLevel:
    """The input is x = alpha·x₀ + sigma·ε; `prediction` names what the denoiser predicts from it.

    alpha + sigma is 1 for rectified `flow`, else alpha² + sigma² is. The scheduler is given the prediction
    times `sign`. `weights`: those of x and of the output in x̂₀, for the prediction type "consistency" alone.
    """

    alpha: float
    sigma: float
    prediction: str
    flow: bool = False
    sign: Literal[1, -1] = 1
    weights: tuple[float, float] = (0.0, 1.0)

    @property
    def noise_alone(self) -> bool:
        """Whether next to no image is in the input, as where rectified flow begins: a blur changes nothing.

        Of ε that is no matter of α: x̂₀ grows as it falls.
        """
        return abs(self.alpha) < NOISE_ALONE and self.prediction != "epsilon"


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


def _scaled(sigma: float, prediction: str) -> NoiseLevel:
    """α² = 1/(s² + 1)."""
    scale = math.hypot(sigma, 1.0)
    return NoiseLevel(1 / scale, sigma / scale, prediction)


def _from_sigmas(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α² = 1/(s² + 1) with s the scheduler's sigma; α = 1 − s where it was told to use flow sigmas."""
    sigma = scheduler.sigmas[step.index].item()
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return NoiseLevel(1 - sigma, sigma, scheduler.config.prediction_type, flow=True)
    return _scaled(sigma, scheduler.config.prediction_type)


def _between_sigmas(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """The same, where a step's second call is at a sigma between two of the schedule."""
    if scheduler.state_in_first_order:
        sigma = scheduler.sigmas[step.index]
    elif hasattr(scheduler, "mid_point_sigma"):
        sigma = scheduler.mid_point_sigma
    else:  # the ancestral one keeps each beside the sigma before it, the other beside the one after
        sigma = scheduler.sigmas_interpol[step.index - hasattr(scheduler, "sigmas_down")]
    return _scaled(sigma.item(), scheduler.config.prediction_type)


def _from_flow(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α = 1 − σ (rectified flow); with `invert_sigmas` α = σ, and the output points to the image."""
    sigma = scheduler.sigmas[step.index].item()
    if getattr(scheduler.config, "invert_sigmas", False):
        return NoiseLevel(sigma, 1 - sigma, "flow_prediction", flow=True, sign=-1)
    return NoiseLevel(1 - sigma, sigma, "flow_prediction", flow=True)


def _from_one_stage(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """UniPC's, or Euler's, which knows rectified flow alone."""
    stages = scheduler.config.stages
    if stages > 1:
        raise UnsupportedError(f"cannot guide with HeliosScheduler with {stages} stages: {STAGES}")
    return (_from_flow if scheduler.config.scheduler_type == "euler" else _from_sigmas)(scheduler, step)


def _from_consistent_flow(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    if scheduler.config.invert_sigmas:
        raise UnsupportedError("cannot guide with FlowMatchLCMScheduler with invert_sigmas: it ends in noise")
    return _from_flow(scheduler, step)


def _from_angle(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α = cos t, σ = sin t (TrigFlow), and what it steps is v; x₀ and ε are in units of `sigma_data`."""
    angle = scheduler.timesteps[step.index].item()
    return NoiseLevel(math.cos(angle), math.sin(angle), "v_prediction")


def _preconditioned(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """The input over √(s² + d²), d being `sigma_data`: v, x₀ in units of d, or −v under the name of ε."""
    sigma = scheduler.sigmas[step.index].item() / scheduler.config.sigma_data
    level = _scaled(sigma, "v_prediction")
    return level if scheduler.config.prediction_type == "v_prediction" else replace(level, sign=-1)


def _consistency(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """The same input; x̂₀'s weights are such that at the smallest sigma it is the sample itself."""
    sigma, unit = scheduler.sigmas[step.index], scheduler.config.sigma_data
    skip, out = (weight.item() for weight in scheduler.get_scalings_for_boundary_condition(sigma))
    scale = math.hypot(sigma.item(), unit)
    level = _scaled(sigma.item() / unit, "consistency")
    return replace(level, weights=(skip * scale / unit, out / unit))


def _from_ratio(scheduler: Any, step: SamplingStep) -> NoiseLevel:
    """α² = ᾱ(t) of a t that runs from 1 to 0."""
    time = torch.tensor([step.timestep])
    alpha2 = scheduler._alpha_cumprod(time, time.device).item()
    return NoiseLevel(math.sqrt(alpha2), math.sqrt(1 - alpha2), "epsilon")


Formula = Callable[[Any, SamplingStep], NoiseLevel]
FROM_TABLE = (
    *("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler"),
    *("LCMScheduler", "TCDScheduler", "UnCLIPScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
)
FROM_SIGMAS = (
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
    *("DEISMultistepScheduler", "SASolverScheduler", "EulerDiscreteScheduler", "LMSDiscreteScheduler"),
    *("EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
)
BETWEEN_SIGMAS = ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler")
FROM_FLOW = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "LTXEulerAncestralRFScheduler",
)
SCHEDULERS: dict[str, Formula] = {
    **dict.fromkeys(FROM_TABLE, _from_table),
    **dict.fromkeys(FROM_SIGMAS, _from_sigmas),
    **dict.fromkeys(BETWEEN_SIGMAS, _between_sigmas),
    **dict.fromkeys(FROM_FLOW, _from_flow),
    **dict.fromkeys(("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), _preconditioned),
    "DDPMWuerstchenScheduler": _from_ratio,
    "CMStochasticIterativeScheduler": _consistency,
    "SCMScheduler": _from_angle,
    "FlowMatchLCMScheduler": _from_consistent_flow,
    "HeliosScheduler": _from_one_stage,
}
ENDING = (
    "DDPMWuerstchenScheduler",
    "SCMScheduler",
)  # their last timestep is where they end: no call is there


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
            total = math.ceil((len(timesteps) - (type(scheduler).__name__ in ENDING)) / order)
            return SamplingStep(int(index), int(index) // order, total, timesteps[index].item())
    raise ValueError(
        f"the denoiser was called at timestep {timestep:g}, which is not among the scheduler's "
        f"{len(timesteps)} timesteps; call scheduler.set_timesteps first, or disable guidance"
    )


def _near(scheduled: float, called: float) -> bool:
    # UniPC's timesteps are rounded down, where Cosmos passes sigmas; FLUX passes t/1000: rounded to bfloat16
    # twice, each time by up to 1/256.
    return abs(scheduled - called) <= 1.01 + abs(scheduled) / 128


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
