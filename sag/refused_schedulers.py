"""Schedulers of diffusers that do not tell guidance what it must know, and why."""

CLASSES = "it steps classes of tokens, in which there is nothing to blur"
BACKWARDS = "it turns a picture into noise, and guidance leads from noise to a picture"
SOUND = "it is made for models of sound"
NO_STEP = "its pipeline does not step by its `step`, and denoises at noise levels that no timestep tells"
STAGES = "each of its stages leads to a noisy picture, not to a clean one"
REFUSED: dict[str, str] = {
    "AmusedScheduler": CLASSES,
    "BlockRefinementScheduler": CLASSES,
    "DiscreteDDIMScheduler": CLASSES,
    "EntropyBoundScheduler": CLASSES,
    "VQDiffusionScheduler": CLASSES,
    "DDIMInverseScheduler": BACKWARDS,
    "DPMSolverMultistepInverseScheduler": BACKWARDS,
    "CosineDPMSolverMultistepScheduler": SOUND,
    "IPNDMScheduler": SOUND,
    "KarrasVeScheduler": NO_STEP,
    "ScoreSdeVeScheduler": NO_STEP,
    "ScoreSdeVpScheduler": NO_STEP,
    "HeliosDMDScheduler": STAGES,
    "ConsistencyDecoderScheduler": "it decodes latents, which are sampled already",
    "FlowMapEulerDiscreteScheduler": "what it steps leads to the next timestep, not to a clean sample",
    "MiniMaxH3Scheduler": "it is made for a video model that is not read here",
    "PiflowScheduler": "its denoiser predicts a policy for many steps, not one clean sample",
    "RePaintScheduler": "it returns to more noise again and again: its timesteps do not tell how far it is",
    "RFD4ProteinaScheduler": "it steps atoms, not an image",
}
