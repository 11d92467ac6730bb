"""The networks of a pipeline, and what their configurations say of its pictures."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tokenrank_guidance.errors import UnsupportedError

DENOISERS = ("unet", "transformer", "transformer_2")
STAGES = ("decoder", "prior")  # of a cascade: denoisers where a pipeline has none of those
AUTOENCODERS = ("vae", "vqvae", "movq")


def denoiser_of(pipe: Any) -> nn.Module:
    """The pipeline's UNet or transformer, out of `torch.compile`'s wrapper; UnsupportedError without one."""
    for module in _denoisers(pipe):
        return getattr(module, "_orig_mod", module)
    raise UnsupportedError(f"{type(pipe).__name__} has neither a unet nor a transformer")


def denoisers_of(pipe: Any) -> list[nn.Module]:
    """All that take turns over the schedule (Wan 2.2's two); UnsupportedError where there is none."""
    denoiser_of(pipe)
    return present_denoisers(pipe)


def present_denoisers(pipe: Any) -> list[nn.Module]:
    """The same; an empty list where there is none."""
    return [getattr(module, "_orig_mod", module) for module in _denoisers(pipe)]


def compiled_denoiser(pipe: Any, denoiser: nn.Module) -> nn.Module | None:
    """`torch.compile`'s wrapper of this denoiser, where the pipeline has that."""
    return next((one for one in _denoisers(pipe) if getattr(one, "_orig_mod", None) is denoiser), None)


def _denoisers(pipe: Any) -> list[nn.Module]:
    def named(*names: str) -> list[nn.Module]:
        found = (getattr(pipe, name, None) for name in names)
        return [module for module in found if isinstance(module, nn.Module)]

    return named(*DENOISERS) or named(*STAGES)[:1]


def config_of(pipe: Any) -> Mapping[str, Any]:
    """The denoiser's configuration."""
    model: Any = denoiser_of(pipe)
    return model.config


def autoencoder_of(pipe: Any) -> Any | None:
    """The autoencoder of `pipe`, None where it denoises pixels."""
    return next((part for part in (getattr(pipe, name, None) for name in AUTOENCODERS) if part), None)


def pixels_per_latent(pipe: Any) -> int:
    """How many pixels a side of a latent stands for."""
    vae = autoencoder_of(pipe)
    if vae is None:
        return 1
    config = vae.config
    told = config.get("scale_factor_spatial") or config.get("spatial_compression_ratio")
    levels = ("block_out_channels", "encoder_block_out_channels", "dim_mult")  # the second is DC-AE's
    return told or 2 ** (len(next(config[name] for name in levels if config.get(name))) - 1)


def native_resolution(pipe: Any) -> int:
    """√(pixels) of the images that the pipeline draws when it is not asked for a size.

    ValueError where it does not tell.
    """
    in_pixels = getattr(pipe, "get_default_resolution", None)  # PRX, whose default_sample_size is this
    if in_pixels is not None:
        return in_pixels()
    default = vars(pipe).get("default_sample_size", getattr(pipe, "config", {}).get("default_sample_size"))
    sample: Any = config_of(pipe).get("sample_size")
    side = default if default is not None else sample
    if side is None:
        return _asked_for(pipe)
    return _side(side) * pixels_per_latent(pipe)


def _asked_for(pipe: Any) -> int:
    """The side that the pipeline's own call has by default."""
    parameters = inspect.signature(pipe.__call__).parameters
    for names in (("height", "width"), ("output_resolution",)):
        sides = [parameters[name].default for name in names if name in parameters]
        if sides and all(isinstance(side, int) for side in sides):
            return _side(sides)
    raise ValueError(f"{type(pipe).__name__} does not tell its size; pass resolution")


def _side(told: int | Sequence[int]) -> int:
    return told if isinstance(told, int) else round(math.prod(told) ** (1 / len(told)))


def execution_device(pipe: Any) -> Any:
    """Where the pipeline computes, which is not where its weights lie if these are offloaded."""
    return getattr(pipe, "_execution_device", pipe.device)
