"""Schedulers by short names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenrank_guidance.errors import UnsupportedError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

FLOW = ("flow-euler", "flow-heun", "flow-lcm")
SCHEDULERS: dict[str, tuple[str, dict[str, object]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "sa-solver": ("SASolverScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "flow-lcm": ("FlowMatchLCMScheduler", {}),
}


def exchange_scheduler(pipe: DiffusionPipeline, name: str) -> None:
    """Give `pipe` the scheduler `name` over the noise schedule that it was trained with.

    Raises UnsupportedError where one is made for rectified flow and the other is not.
    """
    flow = is_flow(pipe.scheduler)
    if flow != (name in FLOW):
        kind = "a rectified-flow model" if flow else "a noise-predicting model"
        fitting = ", ".join(known for known in SCHEDULERS if (known in FLOW) == flow)
        raise UnsupportedError(
            f"{type(pipe).__name__} is {kind}, which {name!r} cannot sample; choose from {fitting}"
        )
    import diffusers  # the names are read by parsers, which must not wait for it

    class_name, options = SCHEDULERS[name]
    pipe.scheduler = getattr(diffusers, class_name).from_config(pipe.scheduler.config, **options)


def is_flow(scheduler: Any) -> bool:
    """Whether the scheduler is one of rectified flow."""
    config = scheduler.config
    asked = config.get("use_flow_sigmas", False) or config.get("prediction_type") == "flow_prediction"
    return asked or type(scheduler).__name__.startswith("FlowMatch")
