"""Which sizes a pipeline can draw at, and whether there is the memory for it: known before work starts."""

from __future__ import annotations

from typing import Any

from tokenrank_guidance.components import autoencoder_of, config_of, native_resolution
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import family_of
from tokenrank_guidance.memory import check_memory
from tokenrank_guidance.messages import counted


def both_sides(pipe: Any, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """The height and width to ask for, where one may be left to `pipe`, which is then its own.

    StableDiffusionPipeline draws its own size unless it is given both; other pipelines fill in the one.
    """
    halves = any(base.__name__ == "StableDiffusionPipeline" for base in type(pipe).__mro__)
    if not halves or (height is None) == (width is None):
        return height, width
    told = config_of(pipe)["sample_size"]
    own = [side * pipe.vae_scale_factor for side in ((told, told) if isinstance(told, int) else told)]
    return height or own[0], width or own[1]


def check_size(pipe: Any, height: int | None, width: int | None, images: int) -> None:
    """UnsupportedError for sides that `pipe` has no whole tokens for, and for `images` that do not fit.

    A side that is None is the pipeline's own.
    """
    step = size_step(pipe)
    for name, side in (("height", height), ("width", width)):
        if side is not None and side % step:
            nearest = max(step, round(side / step) * step)
            raise UnsupportedError(
                f"{name} is {side}; {type(pipe).__name__} draws multiples of {step}, such as {nearest}"
            )
    native = _native_side(pipe)
    check_pass(pipe, height or native, width or native, images)


def check_pass(pipe: Any, height: int, width: int, images: int = 1) -> None:
    """UnsupportedError where what is surely held of `images` at height × width pixels does not fit."""
    check_memory(
        held_bytes(pipe, height, width, images),
        str(getattr(pipe, "device", "cpu")),
        f"{counted(images, 'image')} of {height}×{width} at once",
    )


def size_step(pipe: Any) -> int:
    """Pixels that sides must be a multiple of: a latent's, or those of a patch of latents."""
    return _pixels_per_latent(pipe) * _patch(pipe)


def held_bytes(pipe: Any, height: int, width: int, images: int) -> int:
    """A lower bound: what goes into and comes out of one convolution at full size, in float32 on a CPU.

    An autoencoder that works in tiles, or image by image, holds less: of those only the pictures are counted.
    """
    vae = autoencoder_of(pipe)
    if getattr(vae, "use_tiling", False):
        return 3 * 4 * images * height * width
    at_once = 1 if getattr(vae, "use_slicing", False) else images
    network = vae or getattr(pipe, "unet", None)
    channels = getattr(getattr(network, "config", None), "block_out_channels", None) or (3,)
    return 2 * channels[0] * _itemsize(network) * at_once * height * width


def _patch(pipe: Any) -> int:
    """What pipelines pack into a token, where they do; else the transformer's patch_size."""
    transformer = getattr(pipe, "transformer", None)
    if transformer is None:
        return 1
    family = family_of(transformer)
    if family is not None and family.packing > 1:
        return family.packing
    patch = getattr(transformer.config, "patch_size", 1)
    return patch if isinstance(patch, int) and patch > 0 else 1


def _native_side(pipe: Any) -> int:
    """The side of what is drawn when no size is asked for; where it is not told, the smallest."""
    try:
        return native_resolution(pipe)
    except ValueError:
        return size_step(pipe)


def _pixels_per_latent(pipe: Any) -> int:
    scale = getattr(pipe, "vae_scale_factor", 1)
    return scale if isinstance(scale, int) else 1


def _itemsize(network: Any) -> int:
    dtype = getattr(network, "dtype", None)
    return getattr(dtype, "itemsize", 4)
