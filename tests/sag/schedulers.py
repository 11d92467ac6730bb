"""Every scheduler that guidance supports, in the settings that change its noise levels."""

from dataclasses import dataclass
from typing import Any

import diffusers as d

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ALL = ("epsilon", "sample", "v_prediction")
NO_SAMPLE = ("epsilon", "v_prediction")
FLOW = ("flow_prediction",)


@dataclass(frozen=True)
class Case:
    """A scheduler class, its prediction types and settings, and the independent `oracle` for its noise level.

    "original": `step(...).pred_original_sample`; "clean" and "noise": what `convert_model_output` returns;
    "add_noise": the scheduler's own noising.
    """

    scheduler: type
    predictions: tuple[str, ...]
    oracle: str
    settings: tuple[tuple[str, Any], ...] = ()

    def build(self, prediction: str) -> Any:
        if self.scheduler is d.FlowMatchEulerDiscreteScheduler:
            return self.scheduler(**dict(self.settings))
        return self.scheduler(prediction_type=prediction, **(BETAS | dict(self.settings)))


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
    "cogvideox-ddim": _case(d.CogVideoXDDIMScheduler, ALL, "original", snr_shift_scale=4.0),
    "cogvideox-ddim-zero-snr": _case(
        d.CogVideoXDDIMScheduler,
        ("v_prediction",),
        "original",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    ),
    "cogvideox-dpm": _case(d.CogVideoXDPMScheduler, ALL, "add_noise", snr_shift_scale=4.0),
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
}
