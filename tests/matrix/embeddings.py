"""Prompts as embeddings: what a pipeline's `encode_prompt` returns, under the names that its call takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tests.matrix.rows import Arguments

POOLED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
MASKED = (
    "prompt_embeds",
    "prompt_attention_mask",
    "negative_prompt_embeds",
    "negative_prompt_attention_mask",
)


def prompt_embeddings(pipe: Any, given: Arguments) -> Arguments:
    """The arguments with embeddings in place of the prompts."""
    taken = inspect.signature(type(pipe).__call__).parameters
    encoded = encoder_of(pipe)(pipe, given)
    encoded = {name: value for name, value in encoded.items() if name in taken}
    absent = {name: None for name in ("prompt", "negative_prompt") if name in given}
    return {**given, **encoded, **absent}


def _sd(pipe: Any, given: Arguments) -> Arguments:
    both = pipe.encode_prompt(given["prompt"], "cpu", 1, True, negative_prompt=given["negative_prompt"])
    return dict(zip(POOLED, both, strict=False))


def _sdxl(pipe: Any, given: Arguments) -> Arguments:
    every = pipe.encode_prompt(prompt=given["prompt"], negative_prompt=given["negative_prompt"])
    return dict(zip(POOLED, every, strict=True))


def _sd3(pipe: Any, given: Arguments) -> Arguments:
    every = pipe.encode_prompt(
        given["prompt"],
        None,
        None,
        negative_prompt=given["negative_prompt"],
        max_sequence_length=given["max_sequence_length"],
    )
    return dict(zip(POOLED, every, strict=True))


def _masked(pipe: Any, given: Arguments) -> Arguments:
    every = pipe.encode_prompt(
        given["prompt"],
        negative_prompt=given["negative_prompt"],
        max_sequence_length=given.get("max_sequence_length", 16),
    )
    return dict(zip(MASKED, every, strict=True))


def _halves(pipe: Any, given: Arguments, names: tuple[str, ...], **options: Any) -> Arguments:
    """Pipelines that encode one half at a time."""
    encoded = {}
    for prefix, prompt in (("", given["prompt"]), ("negative_", given.get("negative_prompt"))):
        if prompt is not None:
            values = pipe.encode_prompt(prompt=prompt, **options)
            encoded |= {f"{prefix}{name}": value for name, value in zip(names, values, strict=False)}
    return encoded


def _flux(pipe: Any, given: Arguments) -> Arguments:
    names = ("prompt_embeds", "pooled_prompt_embeds")
    return _halves(pipe, given, names, prompt_2=None, max_sequence_length=given["max_sequence_length"])


def _qwen(pipe: Any, given: Arguments) -> Arguments:
    return _halves(pipe, given, ("prompt_embeds", "prompt_embeds_mask"))


def _flux2(pipe: Any, given: Arguments) -> Arguments:
    names = ("max_sequence_length", "text_encoder_out_layers")
    return _halves(pipe, given, ("prompt_embeds",), **{name: given[name] for name in names})


def _sana(pipe: Any, given: Arguments) -> Arguments:
    if "negative_prompt" in given:
        return _masked(pipe, given)
    return _halves(pipe, given, MASKED[:2], max_sequence_length=given["max_sequence_length"])  # Sprint


def _z_image(pipe: Any, given: Arguments) -> Arguments:
    """Lists; Omni's row has nothing else."""
    if "prompt" not in given:
        return given
    both = pipe.encode_prompt(
        given["prompt"],
        negative_prompt=given["negative_prompt"],
        do_classifier_free_guidance=given["negative_prompt"] is not None,
        max_sequence_length=given["max_sequence_length"],
    )
    return dict(zip(("prompt_embeds", "negative_prompt_embeds"), both, strict=True))


ENCODERS: dict[str, Callable[[Any, Arguments], Arguments]] = {
    "sd": _sd,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux": _flux,
    "pixart": _masked,
    "qwen": _qwen,
    "flux2": _flux2,
    "flux2-klein": _flux2,
    "auraflow": _masked,
    "lumina2": _masked,
    "sana": _sana,
    "zimage": _z_image,
}
CLASSES = {
    "UNet2DConditionModel": "sd",
    "SD3Transformer2DModel": "sd3",
    "FluxTransformer2DModel": "flux",
    "PixArtTransformer2DModel": "pixart",
    "QwenImageTransformer2DModel": "qwen",
    "Flux2Transformer2DModel": "flux2",
    "AuraFlowTransformer2DModel": "auraflow",
    "Lumina2Transformer2DModel": "lumina2",
    "SanaTransformer2DModel": "sana",
    "ZImageTransformer2DModel": "zimage",
}


def encoder_of(pipe: Any) -> Callable[[Any, Arguments], Arguments]:
    denoiser = pipe.components.get("unet") or pipe.components["transformer"]
    family = CLASSES[type(denoiser).__name__]
    return ENCODERS["sdxl" if family == "sd" and hasattr(pipe, "text_encoder_2") else family]
