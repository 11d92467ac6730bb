"""Blocks of modular pipelines that `tests.sag` samples: guided, their steps are the classic pipeline's."""

from diffusers import modular_pipelines as m
from diffusers.modular_pipelines.stable_diffusion_3 import StableDiffusion3AutoBlocks

BY_THE_GUIDER = {
    "sdxl": m.StableDiffusionXLAutoBlocks,
    "sd3": StableDiffusion3AutoBlocks,
    "qwen": m.QwenImageAutoBlocks,
    "flux2-klein": m.Flux2KleinBaseAutoBlocks,
    "krea2": m.Krea2AutoBlocks,
}
BY_THE_HOOK = {"flux": m.FluxAutoBlocks, "flux2": m.Flux2AutoBlocks}
