"""Every scheduler that guidance supports, in the settings that change its noise levels."""

import inspect
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import diffusers as d
import torch

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ALL = ("epsilon", "sample", "v_prediction")
NO_SAMPLE = ("epsilon", "v_prediction")
EPSILON = ("epsilon",)
SLOW = (d.KDPM2DiscreteScheduler, d.KDPM2AncestralDiscreteScheduler)  # to build, by the training timestep
FLOW = ("flow_prediction",)


UNCLIP = {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2"}
ONE_STAGE = {"stages": 1, "stage_range": [0, 1]}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def _without_torchsde() -> type:
    """DPMSolverSDEScheduler, which needs torchsde for its noise alone: here that is any."""

    def noise(size: tuple[int, ...], **others: Any) -> Any:
        return lambda start, end: torch.randn(size)

    before = sys.modules.get("torchsde")
    sys.modules["torchsde"] = cast(ModuleType, SimpleNamespace(BrownianInterval=noise))
    try:
        return import_module("diffusers.schedulers.scheduling_dpmsolver_sde").DPMSolverSDEScheduler
    finally:
        if before is None:
            del sys.modules["torchsde"]
        else:
            sys.modules["torchsde"] = before


DPM_SDE = _without_torchsde()


@dataclass(frozen=True)
class Case:
    """A scheduler class, its prediction types and settings, and the independent `oracle` for its noise level.

    "original": `step(...).pred_original_sample`; "clean" and "noise": what `convert_model_output` returns;
    "add_noise": the scheduler's own noising; "end": where its own step leads if the next sigma is 0, or 1
    where that is the end; "path": a denoiser that knows the clean sample is led along a straight line to it.
    Clean samples are in units of `sigma_data`, where a scheduler has that.
    """

    scheduler: type
    predictions: tuple[str, ...]
    oracle: str
    settings: tuple[tuple[str, Any], ...] = ()

    def build(self, prediction: str) -> Any:
        known = inspect.signature(self.scheduler).parameters
        short = {"num_train_timesteps": 100} if self.scheduler in SLOW else {}
        common = {"prediction_type": prediction, **BETAS, **short}
        usual = {name: value for name, value in common.items() if name in known}
        return self.scheduler(**(usual | dict(self.settings)))


def _case(scheduler: type, predictions: tuple[str, ...], oracle: str, **settings: Any) -> Case:
    return Case(scheduler, predictions, oracle, tuple(settings.items()))


CASES: dict[str, Case] = {
    "ddim": _case(d.DDIMScheduler, ALL, "original", clip_sample=False, steps_offset=1),
    "ddim-trailing": _case(d.DDIMScheduler, ALL, "original", clip_sample=False, timestep_spacing="trailing"),
    "ddim-zero-snr": _case(
        d.DDIMScheduler,
        ("v_prediction",),
        "original",
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    ),
    "ddpm": _case(d.DDPMScheduler, ALL, "original", clip_sample=False),
    "pndm": _case(d.PNDMScheduler, NO_SAMPLE, "add_noise", skip_prk_steps=True, steps_offset=1),
    "pndm-prk": _case(d.PNDMScheduler, NO_SAMPLE, "add_noise", skip_prk_steps=False),
    "lcm": _case(d.LCMScheduler, ALL, "add_noise", clip_sample=False),
    "dpm++": _case(d.DPMSolverMultistepScheduler, ALL, "clean"),
    "dpm++-karras": _case(d.DPMSolverMultistepScheduler, ALL, "clean", use_karras_sigmas=True),
    "dpm++-sde": _case(
        d.DPMSolverMultistepScheduler, ALL, "clean", algorithm_type="sde-dpmsolver++", use_karras_sigmas=True
    ),
    "dpm": _case(
        d.DPMSolverMultistepScheduler,
        ALL,
        "noise",
        algorithm_type="dpmsolver",
        final_sigmas_type="sigma_min",
    ),
    "dpm++-flow": _case(d.DPMSolverMultistepScheduler, FLOW, "clean", use_flow_sigmas=True, flow_shift=3.0),
    "dpm++-single": _case(d.DPMSolverSinglestepScheduler, ALL, "clean"),
    "dpm++-single-karras": _case(d.DPMSolverSinglestepScheduler, ALL, "clean", use_karras_sigmas=True),
    "unipc": _case(d.UniPCMultistepScheduler, ALL, "clean"),
    "unipc-karras": _case(d.UniPCMultistepScheduler, ALL, "clean", use_karras_sigmas=True),
    "unipc-flow": _case(d.UniPCMultistepScheduler, FLOW, "clean", use_flow_sigmas=True, flow_shift=3.0),
    "deis": _case(d.DEISMultistepScheduler, ALL, "noise"),
    "deis-karras": _case(d.DEISMultistepScheduler, ALL, "noise", use_karras_sigmas=True),
    "euler": _case(d.EulerDiscreteScheduler, ALL, "original"),
    "euler-karras": _case(d.EulerDiscreteScheduler, ALL, "original", use_karras_sigmas=True),
    "euler-exponential": _case(d.EulerDiscreteScheduler, ALL, "original", use_exponential_sigmas=True),
    "euler-beta": _case(d.EulerDiscreteScheduler, ALL, "original", use_beta_sigmas=True),
    "euler-trailing": _case(d.EulerDiscreteScheduler, ALL, "original", timestep_spacing="trailing"),
    "euler-a": _case(d.EulerAncestralDiscreteScheduler, NO_SAMPLE, "original"),
    "heun": _case(d.HeunDiscreteScheduler, NO_SAMPLE, "original"),
    "heun-karras": _case(d.HeunDiscreteScheduler, NO_SAMPLE, "original", use_karras_sigmas=True),
    "lms": _case(d.LMSDiscreteScheduler, NO_SAMPLE, "original"),
    "lms-karras": _case(d.LMSDiscreteScheduler, NO_SAMPLE, "original", use_karras_sigmas=True),
    "flow": _case(d.FlowMatchEulerDiscreteScheduler, FLOW, "add_noise"),
    "flow-shift": _case(d.FlowMatchEulerDiscreteScheduler, FLOW, "add_noise", shift=3.0),
    "flow-karras": _case(d.FlowMatchEulerDiscreteScheduler, FLOW, "add_noise", use_karras_sigmas=True),
    "flow-inverted": _case(d.FlowMatchEulerDiscreteScheduler, FLOW, "end", invert_sigmas=True, shift=3.0),
    "flow-heun": _case(d.FlowMatchHeunDiscreteScheduler, FLOW, "path", shift=3.0),
    "flow-lcm": _case(d.FlowMatchLCMScheduler, FLOW, "end", shift=3.0),
    "flow-lcm-karras": _case(d.FlowMatchLCMScheduler, FLOW, "end", use_karras_sigmas=True),
    "flow-lcm-exponential": _case(d.FlowMatchLCMScheduler, FLOW, "end", use_exponential_sigmas=True),
    "flow-lcm-beta": _case(d.FlowMatchLCMScheduler, FLOW, "end", use_beta_sigmas=True),
    "ltx-euler-a": _case(d.LTXEulerAncestralRFScheduler, FLOW, "end"),
    "tcd": _case(d.TCDScheduler, ALL, "add_noise"),
    "ddim-parallel": _case(d.DDIMParallelScheduler, ALL, "original", clip_sample=False, steps_offset=1),
    "ddpm-parallel": _case(d.DDPMParallelScheduler, ALL, "original", clip_sample=False),
    "unclip": _case(d.UnCLIPScheduler, ("epsilon", "sample"), "original", **UNCLIP),
    "cogvideox-ddim": _case(d.CogVideoXDDIMScheduler, ALL, "original", snr_shift_scale=1.0),
    "cogvideox-ddim-zero-snr": _case(d.CogVideoXDDIMScheduler, ("v_prediction",), "original", **ZERO_SNR),
    "cogvideox-dpm": _case(d.CogVideoXDPMScheduler, ALL, "original"),
    "cogvideox-dpm-zero-snr": _case(d.CogVideoXDPMScheduler, ("v_prediction",), "original", **ZERO_SNR),
    "wuerstchen": _case(d.DDPMWuerstchenScheduler, EPSILON, "add_noise"),
    "wuerstchen-scaled": _case(d.DDPMWuerstchenScheduler, EPSILON, "add_noise", scaler=2.0),
    "helios": _case(d.HeliosScheduler, FLOW, "clean", **ONE_STAGE),
    "helios-euler": _case(d.HeliosScheduler, FLOW, "end", scheduler_type="euler", shift=3.0, **ONE_STAGE),
    "helios-noise": _case(d.HeliosScheduler, NO_SAMPLE, "clean", use_flow_sigmas=False, **ONE_STAGE),
    "sa-solver": _case(d.SASolverScheduler, ALL, "clean"),
    "sa-solver-noise": _case(d.SASolverScheduler, ALL, "noise", algorithm_type="noise_prediction"),
    "sa-solver-karras": _case(d.SASolverScheduler, ALL, "clean", use_karras_sigmas=True),
    "sa-solver-exponential": _case(d.SASolverScheduler, ALL, "clean", use_exponential_sigmas=True),
    "sa-solver-beta": _case(d.SASolverScheduler, ALL, "clean", use_beta_sigmas=True),
    "sa-solver-flow": _case(d.SASolverScheduler, FLOW, "clean", use_flow_sigmas=True, flow_shift=3.0),
    "kdpm2": _case(d.KDPM2DiscreteScheduler, NO_SAMPLE, "original"),
    "kdpm2-karras": _case(d.KDPM2DiscreteScheduler, NO_SAMPLE, "original", use_karras_sigmas=True),
    "kdpm2-exponential": _case(d.KDPM2DiscreteScheduler, NO_SAMPLE, "original", use_exponential_sigmas=True),
    "kdpm2-beta": _case(d.KDPM2DiscreteScheduler, NO_SAMPLE, "original", use_beta_sigmas=True),
    "kdpm2-a": _case(d.KDPM2AncestralDiscreteScheduler, NO_SAMPLE, "original"),
    "kdpm2-a-karras": _case(d.KDPM2AncestralDiscreteScheduler, NO_SAMPLE, "original", use_karras_sigmas=True),
    "dpm-sde": _case(DPM_SDE, NO_SAMPLE, "original"),
    "dpm-sde-karras": _case(DPM_SDE, NO_SAMPLE, "original", use_karras_sigmas=True),
    "edm-euler": _case(d.EDMEulerScheduler, NO_SAMPLE, "original"),
    "edm-euler-exponential": _case(
        d.EDMEulerScheduler, NO_SAMPLE, "original", sigma_schedule="exponential", sigma_data=1.0
    ),
    "edm-dpm++": _case(d.EDMDPMSolverMultistepScheduler, NO_SAMPLE, "clean"),
    "consistency": _case(d.CMStochasticIterativeScheduler, ("consistency",), "end", clip_denoised=False),
    "scm": _case(d.SCMScheduler, ("trigflow",), "original"),
}
