"""Tiny, seeded, randomly initialised pipelines of the real diffusers classes, built without network.

`pipeline(name)` builds one of `PIPELINES`, or of `LATER`, whose families the support matrix tries;
`run(name, pipe, call)` gives it the arguments its family takes.
Every VAE halves each side: 32x32 pixels are 16x16 latents, and the default attention layer sees 8x8 tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import diffusers as d
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tests import tiny_networks as tiny
from tests.tiny_dit_pipelines import LATER

PROMPT, NEGATIVE = "a red box", "blurry"
VAE_SCALE = 2


def ddim() -> d.DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return d.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
    )


def _stable_diffusion(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.StableDiffusionPipeline(
        tiny.vae(),
        tiny.clip(),
        tiny.tokenizer(77),
        tiny.unet(size=latent),
        scheduler or ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.StableDiffusionXLPipeline(
        tiny.vae(),
        tiny.clip(),
        tiny.clip_projected(),
        tiny.tokenizer(77),
        tiny.tokenizer(77),
        tiny.unet_xl(size=latent),
        scheduler or ddim(),
        add_watermarker=False,
    )


def _stable_diffusion_3(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.StableDiffusion3Pipeline(
        transformer=tiny.sd3(size=max(latent)),
        scheduler=scheduler or d.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=tiny.vae(),
        text_encoder=tiny.clip_projected(),
        tokenizer=tiny.tokenizer(77),
        text_encoder_2=tiny.clip_projected(),
        tokenizer_2=tiny.tokenizer(77),
        text_encoder_3=tiny.t5(),
        tokenizer_3=tiny.tokenizer(77),
    )


def _flux(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    scheduler = scheduler or d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return d.FluxPipeline(
        scheduler, tiny.vae(), tiny.clip(), tiny.tokenizer(77), tiny.t5(), tiny.tokenizer(77), tiny.flux()
    )


def _pixart(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    scheduler = scheduler or ddim()
    return d.PixArtSigmaPipeline(
        tiny.tokenizer(77), tiny.t5(), tiny.vae(), tiny.pixart(size=max(latent)), scheduler
    )


def _dit(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    if latent[0] != latent[1]:
        raise ValueError(f"DiT unpatchifies to a square, got latents of {latent}")
    return d.DiTPipeline(tiny.dit(size=latent[0]), tiny.vae(), scheduler or ddim())


def _ddpm(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    size = (latent[0] * VAE_SCALE, latent[1] * VAE_SCALE)  # no VAE: the model sees pixels
    # abar ends near 0.35: a random network's few steps stay inside [0, 1] and no change is clamped away.
    scheduler = scheduler or d.DDPMScheduler(beta_end=0.002, clip_sample=False)
    return d.DDPMPipeline(tiny.unet_unconditional(size), scheduler)


PIPELINES: dict[str, Callable[[tuple[int, int], object | None], d.DiffusionPipeline]] = {
    "sd": _stable_diffusion,
    "sdxl": _stable_diffusion_xl,
    "sd3": _stable_diffusion_3,
    "flux": _flux,
    "pixart": _pixart,
    "dit": _dit,
    "ddpm": _ddpm,
}
FIXED_SIZE = ("dit", "ddpm")  # their pipelines take no height and width: pass `size` to `pipeline`
UNGUIDED = ("ddpm",)  # no classifier-free guidance: `Call.cfg` changes nothing


def denoiser(pipe: d.DiffusionPipeline) -> nn.Module:
    """The network of a pipeline that a hook or a capture goes on."""
    return pipe.components.get("unet") or pipe.components["transformer"]


def sharpen(model: nn.Module, factor: float = 3.0) -> None:
    """Scale Q and K of every attention, so that random weights give maps that are far from uniform."""
    for name, parameter in model.named_parameters():
        if any(part in ("to_q", "to_k", "add_q_proj", "add_k_proj") for part in name.split(".")):
            parameter.data.mul_(factor)


def pipeline(
    name: str,
    *,
    scheduler: object | None = None,
    size: tuple[int, int] = (32, 32),
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> d.DiffusionPipeline:
    """Build a tiny pipeline of family `name`, leaving the global RNG alone; `size` is (h, w) in pixels."""
    latent = (size[0] // VAE_SCALE, size[1] // VAE_SCALE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = (PIPELINES | LATER)[name](latent, scheduler)
    sharpen(denoiser(pipe))
    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            module.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe if dtype is torch.float32 else pipe.to(dtype)


@dataclass(frozen=True)
class Call:
    """What one run asks for, whatever the family; height and width None mean the pipeline's own."""

    cfg: bool = True
    height: int | None = None
    width: int | None = None
    steps: int = 2
    batch: int = 1
    images_per_prompt: int = 1
    seed: int = 0


def _text_arguments(call: Call) -> dict[str, object]:
    return {
        "prompt": [f"{PROMPT} {i}" for i in range(call.batch)],
        "negative_prompt": [NEGATIVE] * call.batch if call.cfg else None,
        "num_images_per_prompt": call.images_per_prompt,
        "height": call.height or 32,
        "width": call.width or 32,
        "output_type": "latent",
        "guidance_scale": 5.0 if call.cfg else 1.0,
    }


def _sd3_arguments(call: Call) -> dict[str, object]:
    return _text_arguments(call) | {"max_sequence_length": 16}


def _flux_arguments(call: Call) -> dict[str, object]:
    return _sd3_arguments(call) | {"true_cfg_scale": 3.0 if call.cfg else 1.0}


def _qwen_arguments(call: Call) -> dict[str, object]:
    return _flux_arguments(call) | {"guidance_scale": None}


def _flux2_arguments(call: Call) -> dict[str, object]:
    given = _sd3_arguments(call) | {"text_encoder_out_layers": (1,)}
    del given["negative_prompt"]  # Klein guides away from the empty prompt, its sister not at all
    return given


def _hunyuan_arguments(call: Call) -> dict[str, object]:
    size = {"height": 4 * (call.height or 32), "width": 4 * (call.width or 32)}  # its VAE takes an eighth
    return _text_arguments(call) | size | {"use_resolution_binning": False}


def _lumina_arguments(call: Call) -> dict[str, object]:
    return _kandinsky5_arguments(call) | {"clean_caption": False}


def _kandinsky5_arguments(call: Call) -> dict[str, object]:
    given = _hunyuan_arguments(call) | {"max_sequence_length": 60}
    del given["use_resolution_binning"]
    return given


def _lumina2_arguments(call: Call) -> dict[str, object]:
    """Its prompts are of unequal length, so that each image's tokens start elsewhere."""
    given = _hunyuan_arguments(call) | {"max_sequence_length": 60, "cfg_trunc_ratio": 1.0}
    del given["use_resolution_binning"]
    return given | {"prompt": [f"{PROMPT}{'!' * i}" for i in range(call.batch)]}


def _kandinsky_arguments(call: Call) -> dict[str, object]:
    """Its prompts are embeddings of images; sides count in its steps of four pixels."""
    generator = torch.Generator().manual_seed(8)
    prompts = torch.randn(2, call.batch, 16, generator=generator)
    given = _text_arguments(call) | {"image_embeds": prompts[0], "negative_image_embeds": prompts[1]}
    size = {"height": 2 * (call.height or 32), "width": 2 * (call.width or 32)}
    return {name: value for name, value in given.items() if name not in ("prompt", "negative_prompt")} | size


def _pixart_arguments(call: Call) -> dict[str, object]:
    extra = {"clean_caption": False, "use_resolution_binning": False, "max_sequence_length": 16}
    negative = {"negative_prompt": [NEGATIVE] * call.batch if call.cfg else ""}
    return _text_arguments(call) | extra | negative


def _dit_arguments(call: Call) -> dict[str, object]:
    labels = [7 * i + 1 for i in range(call.batch) for _ in range(call.images_per_prompt)]
    return {"class_labels": labels, "guidance_scale": 4.0 if call.cfg else 1.0, "output_type": "pt"}


def _ddpm_arguments(call: Call) -> dict[str, object]:
    return {"batch_size": call.batch * call.images_per_prompt, "output_type": "np"}


ARGUMENTS: dict[str, Callable[[Call], dict[str, object]]] = {
    "sd": _text_arguments,
    "sdxl": _text_arguments,
    "sd3": _sd3_arguments,
    "flux": _flux_arguments,
    "pixart": _pixart_arguments,
    "dit": _dit_arguments,
    "ddpm": _ddpm_arguments,
    "qwen": _qwen_arguments,
    "auraflow": _sd3_arguments,
    "hunyuan": _hunyuan_arguments,
    "lumina": _lumina_arguments,
    "lumina2": _lumina2_arguments,
    "kandinsky5": _kandinsky5_arguments,
    "kandinsky": _kandinsky_arguments,
    "flux2": _flux2_arguments,
    "flux2-klein": _flux2_arguments,
}


def run(
    name: str,
    pipe: d.DiffusionPipeline,
    call: Call | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> Float[Tensor, "images ..."]:
    """Call `pipe` and return latents (sd, sdxl, sd3, flux, pixart) or images in [0, 1] (dit, ddpm)."""
    call = call or Call()
    if name in FIXED_SIZE and (call.height or call.width):
        raise ValueError(f"{name} has a fixed size: give it to pipeline(name, size=...)")
    generator = generator or torch.Generator().manual_seed(call.seed)
    arguments = ARGUMENTS[name](call)
    images = pipe(**arguments, num_inference_steps=call.steps, generator=generator).images
    return torch.as_tensor(images).movedim(-1, 1) if name == "ddpm" else images
