"""Blocks of modular pipelines that `tests.sag` samples: guided, their steps are the classic pipeline's."""

from diffusers import modular_pipelines as m
from diffusers.modular_pipelines.stable_diffusion_3 import StableDiffusion3AutoBlocks

BY_THE_GUIDER = {
    "sdxl": m.StableDiffusionXLAutoBlocks,
    "sd3": StableDiffusion3AutoBlocks,
    "qwen": m.QwenImageAutoBlocks,
    "qwen-edit": m.QwenImageEditAutoBlocks,
    "qwen-edit-plus": m.QwenImageEditPlusAutoBlocks,
    "qwen21": m.QwenImage21AutoBlocks,
    "flux2-klein": m.Flux2KleinBaseAutoBlocks,
    "flux3": m.Flux3AutoBlocks,
    "krea2": m.Krea2AutoBlocks,
    "zimage": m.ZImageAutoBlocks,
    "ernie": m.ErnieImageAutoBlocks,
    "anima": m.AnimaAutoBlocks,
    "wan": m.WanBlocks,
    "wan-i2v": m.WanImage2VideoAutoBlocks,
    "wan22": m.Wan22Blocks,
    "wan22-i2v": m.Wan22Image2VideoBlocks,
    "wan22-vace": m.Wan22VaceBlocks,
    "ltx": m.LTXAutoBlocks,
    "hunyuan-video-15": m.HunyuanVideo15AutoBlocks,
    "helios": m.HeliosAutoBlocks,
}
BY_THE_HOOK = {
    "flux": m.FluxAutoBlocks,
    "flux-kontext": m.FluxKontextAutoBlocks,
    "flux2": m.Flux2AutoBlocks,
    "flux2-klein": m.Flux2KleinAutoBlocks,
    "qwen21-turbo": m.QwenImage21TurboAutoBlocks,
    "ltx2": m.LTX2AutoBlocks,
    "ltx25": m.LTX25AutoBlocks,
}
