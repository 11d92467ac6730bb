"""Pipelines of `tests.tiny_dits`, by family: as `tests.tiny_models.PIPELINES`, but not for its every test."""

from collections.abc import Callable

import diffusers as d

from tests import tiny_dits as dits
from tests import tiny_networks as tiny

MAX_TOKENS = 77


def short_prompts(pipe: d.DiffusionPipeline) -> d.DiffusionPipeline:
    """Qwen-Image frames a prompt with a page of instructions, one token per letter here."""
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "{}", 0
    return pipe


def _flow() -> d.FlowMatchEulerDiscreteScheduler:
    return d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def _flux2(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.Flux2Pipeline(
        scheduler or _flow(),
        dits.flux2_vae(),
        dits.mistral(),
        dits.chat_tokenizer("{{ messages[-1].content[0].text }}"),
        dits.flux2(),
    )


def _flux2_klein(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.Flux2KleinPipeline(
        scheduler or _flow(),
        dits.flux2_vae(),
        dits.qwen3(),
        dits.chat_tokenizer("{{ messages[0].content }}"),
        dits.flux2(),
    )


def _qwen(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    pipe = d.QwenImagePipeline(
        scheduler or _flow(),
        dits.qwen_vae(),
        dits.qwen_vl(),
        tiny.tokenizer(MAX_TOKENS),
        dits.qwen_image(),
    )
    return short_prompts(pipe)


def _auraflow(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.AuraFlowPipeline(
        dits.text_tokenizer(),
        dits.umt5(),
        tiny.vae(),
        dits.auraflow(max(latent)),
        scheduler or d.FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def _hunyuan(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.HunyuanDiTPipeline(
        dits.vae_of_eighths(),
        dits.bert(),
        tiny.tokenizer(77),
        dits.hunyuan(max(latent)),
        scheduler or d.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.018),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=tiny.t5(),
        tokenizer_2=dits.text_tokenizer(),
    )


def _lumina_next(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    return d.LuminaPipeline(
        dits.lumina_next(max(latent)),
        scheduler or d.FlowMatchEulerDiscreteScheduler(),
        dits.vae_of_eighths(),
        dits.gemma(),
        dits.text_tokenizer(),
    )


def _kandinsky(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    scheduler = scheduler or d.DDPMScheduler(beta_end=0.012, beta_schedule="linear", clip_sample=False)
    return d.KandinskyV22Pipeline(dits.kandinsky_unet(latent), scheduler, dits.movq())


def _lumina2(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    pipe = d.Lumina2Pipeline(
        dits.lumina2(max(latent)),
        scheduler or _flow(),
        dits.vae_of_eighths(),
        dits.gemma(),
        dits.text_tokenizer(),
    )
    pipe.system_prompt = "draw"
    return pipe


def _kandinsky5(latent: tuple[int, int], scheduler: object | None) -> d.DiffusionPipeline:
    pipe = d.Kandinsky5T2IPipeline(
        dits.kandinsky5(),
        dits.vae_of_eighths(),
        dits.qwen_vl(),
        tiny.tokenizer(MAX_TOKENS),
        tiny.clip(),
        tiny.tokenizer(MAX_TOKENS),
        scheduler or d.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.prompt_template, pipe.prompt_template_encode_start_idx = "{}", 0
    pipe.resolutions = [(128, 128)]
    return pipe


LATER: dict[str, Callable[[tuple[int, int], object | None], d.DiffusionPipeline]] = {
    "qwen": _qwen,
    "auraflow": _auraflow,
    "lumina": _lumina_next,
    "lumina2": _lumina2,
    "hunyuan": _hunyuan,
    "kandinsky": _kandinsky,
    "kandinsky5": _kandinsky5,
    "flux2": _flux2,
    "flux2-klein": _flux2_klein,
}
