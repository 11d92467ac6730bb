"""Which pipelines cannot be segmented with, and why: found before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from diffseg.passes.channels import latent_channels, mask_channels
from tokenrank_guidance.components import autoencoder_of, config_of, denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import picture_of, reads_text
from tokenrank_guidance.schedulers import is_flow

GIVEN = {"prompt", "prompt_2", "prompt_3", "device", "num_images_per_prompt", "do_classifier_free_guidance"}
IP_ADAPTER = "MultiIPAdapterImageProjection"
ENCODED = ("vae", "vqvae", "text_encoder", "tokenizer")


def check_pipeline(pipe: Any) -> None:
    """Raise UnsupportedError, saying why, for a pipeline that an image cannot be passed through here."""
    picture = picture_of(pipe)
    for reason in (
        _missing(pipe, picture.spare(pipe)),
        _encoder(pipe, picture.pixels),
        picture.refused(pipe),
        _channels(pipe),
        _adapter(pipe),
        _text(pipe) if reads_text(pipe) else "",
        _schedule(pipe),
    ):
        if reason:
            raise UnsupportedError(f"cannot segment with {type(pipe).__name__}: {reason}")


def _missing(pipe: Any, spare: Collection[str]) -> str:
    """Parts that were not loaded, but for those that a pipeline does without."""
    parts: dict[str, Any] = getattr(pipe, "components", {})
    needed = [name for name in parts if name.startswith(ENCODED) and name not in spare]
    absent = [name for name in needed if parts[name] is None]
    return f"it was loaded without its {', '.join(absent)}" if absent else ""


def _encoder(pipe: Any, pixels: Callable[[Tensor], Tensor]) -> str:
    vae = autoencoder_of(pipe)
    given = pixels(torch.empty(1, 3, 1, 1)).shape[1]
    channels = given if vae is None else vae.config.get("in_channels", given) // _square(vae)
    return "" if channels == given else f"its autoencoder encodes {channels} channels, a picture has {given}"


def _square(vae: Any) -> int:
    """Pixels that an autoencoder puts into one before it encodes them (Wan 2.2's)."""
    side = vae.config.get("patch_size")
    return side**2 if isinstance(side, int) else 1


def _channels(pipe: Any) -> str:
    taken, made = config_of(pipe)["in_channels"], latent_channels(pipe)
    if taken == made or mask_channels(pipe):
        return ""
    what = f"its denoiser takes {taken} channels, an image gives {made}"
    if taken < made:
        return what
    return f"{what}; the others hold a condition for which no neutral value is known here"


def _adapter(pipe: Any) -> str:
    projection = getattr(denoiser_of(pipe), "encoder_hid_proj", None)
    loaded = type(projection).__name__ == IP_ADAPTER
    return "its IP-Adapter wants a picture; call unload_ip_adapter() first" if loaded else ""


def _text(pipe: Any) -> str:
    encode = getattr(pipe, "encode_prompt", None)
    if encode is None:
        return "it has no encode_prompt, which gives the text of a caption or of none"
    taken = [one for one in inspect.signature(encode).parameters.values() if one.kind is not one.VAR_KEYWORD]
    others = [one.name for one in taken if one.default is one.empty and one.name not in GIVEN]
    return f"its encode_prompt wants {', '.join(others)} too" if others else ""


def _schedule(pipe: Any) -> str:
    scheduler = pipe.scheduler
    if is_flow(scheduler) or hasattr(scheduler, "alphas_cumprod"):
        return ""
    return f"{type(scheduler).__name__} has no alphas_cumprod, which tell the noise of a timestep"
