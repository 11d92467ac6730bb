"""Which pipelines cannot be segmented with, and why: found before anything runs."""

from __future__ import annotations

import inspect
from typing import Any

from diffseg.channels import latent_channels, mask_channels
from diffseg.conditions import WITHOUT_TEXT, aesthetics, supported
from diffseg.noise import is_flow
from diffseg.sizes import config_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.pipelines import autoencoder_of, denoiser_of

GIVEN = {"prompt", "prompt_2", "prompt_3", "device", "num_images_per_prompt", "do_classifier_free_guidance"}
IP_ADAPTER = "MultiIPAdapterImageProjection"
ENCODED = ("vae", "vqvae", "text_encoder", "tokenizer")


def check_pipeline(pipe: Any) -> None:
    """Raise UnsupportedError, saying why, for a pipeline that an image cannot be passed through here."""
    family = supported(pipe)
    for reason in (
        _missing(pipe, family),
        _encoder(pipe),
        _unet(pipe) if family.startswith("UNet") else "",
        _channels(pipe),
        _adapter(pipe),
        "" if family in WITHOUT_TEXT else _text(pipe),
        _schedule(pipe),
    ):
        if reason:
            raise UnsupportedError(f"cannot segment with {type(pipe).__name__}: {reason}")


def _missing(pipe: Any, family: str) -> str:
    """Parts that were not loaded; SD3 does without T5, SDXL's refiner without its first text encoder."""
    spare = {"text_encoder_3", "tokenizer_3"} if family == "SD3Transformer2DModel" else set()
    if aesthetics(pipe):
        spare = {"text_encoder", "tokenizer"}
    parts: dict[str, Any] = getattr(pipe, "components", {})
    needed = [name for name in parts if name.startswith(ENCODED) and name not in spare]
    absent = [name for name in needed if parts[name] is None]
    return f"it was loaded without its {', '.join(absent)}" if absent else ""


def _encoder(pipe: Any) -> str:
    vae = autoencoder_of(pipe)
    channels = 3 if vae is None else vae.config.get("in_channels", 3)
    return "" if channels == 3 else f"its autoencoder encodes {channels} channels, a picture has 3"


def _channels(pipe: Any) -> str:
    taken, made = config_of(pipe)["in_channels"], latent_channels(pipe)
    if taken == made or mask_channels(pipe):
        return ""
    what = f"its denoiser takes {taken} channels, an image gives {made}"
    if taken < made:
        return what
    return f"{what}; the others hold a condition for which no neutral value is known here"


def _unet(pipe: Any) -> str:
    config = config_of(pipe)
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        return "its UNet takes class embeddings, of which no neutral one is known here"
    kinds = (config.get("addition_embed_type"), config.get("encoder_hid_dim_type"))
    other = [kind for kind in kinds if kind not in (None, "text_time", "text_proj", "ip_image_proj")]
    if other:
        return f"its UNet takes {other[0]!r} embeddings, which are not supported"
    return _micro(pipe) if kinds[0] == "text_time" else ""


def _micro(pipe: Any) -> str:
    """SDXL's UNet takes sizes beside the pooled text, its refiner's an aesthetic score for one of them."""
    pooled = getattr(getattr(pipe, "text_encoder_2", None), "config", None)
    if pooled is None:
        return ""
    unet: Any = denoiser_of(pipe)
    taken = unet.add_embedding.linear_1.in_features
    made = pooled.projection_dim + (5 if aesthetics(pipe) else 6) * unet.config.addition_time_embed_dim
    if taken == made:
        return ""
    return f"its UNet takes {taken} numbers of sizes and pooled text, the pipeline makes {made}"


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
