"""How a picture is put into a denoiser: what else it is called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.components import pixels_per_latent

Latents = Float[Tensor, "1 c h w"]
Inputs = dict[str, Any]


@dataclass(frozen=True, eq=False)
class PicturePass:
    """One denoiser call: `time` is in the scheduler's timesteps; an empty `caption` is unconditional.

    `image` is what `latents` are without noise. Inpainting models are given `mask` channels too.
    """

    pipe: Any
    latents: Latents
    image: Latents
    time: float
    caption: str = ""
    mask: int = 0

    @property
    def device(self) -> torch.device:
        return self.latents.device

    @property
    def size(self) -> tuple[int, int]:
        """In pixels."""
        height, width = self.latents.shape[-2:]
        scale = pixels_per_latent(self.pipe)
        return height * scale, width * scale

    def times(self, scale: float = 1.0) -> Float[Tensor, "1"]:
        """The time in the denoiser's units."""
        return torch.tensor([self.time * scale], device=self.device)

    def numbers(self, *values: float) -> Float[Tensor, "1 k"]:
        """In the latents' dtype."""
        return torch.tensor([values], device=self.device, dtype=self.latents.dtype)

    def with_mask(self) -> Float[Tensor, "1 c_in h w"]:
        """The latents; for inpainting a mask of zeros too, which keeps all of the image, and the image."""
        if not self.mask:
            return self.latents
        return torch.cat([self.latents, torch.zeros_like(self.latents[:, : self.mask]), self.image], 1)


def nothing_spared(pipe: Any) -> frozenset[str]:
    """Every encoder is needed."""
    return frozenset()


def any_number(pipe: Any) -> int | None:
    """Of tokens."""
    return None


def nothing_unusual(pipe: Any) -> str:
    """No configuration of the class is refused."""
    return ""


def scaled(vae: Any, encoded: Latents) -> Latents:
    """Shifted and scaled by two numbers of the autoencoder's configuration."""
    shift, scale = vae.config.get("shift_factor") or 0.0, vae.config.get("scaling_factor") or 1.0
    return (encoded - shift) * scale


def one_frame(pixels: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c one h w"]:
    """A picture as a video of one frame, for autoencoders of videos."""
    return pixels.unsqueeze(2)


def opaque_frame(pixels: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 4 one h w"]:
    """The same with an alpha channel, for autoencoders of layers; pixels are in [-1, 1]."""
    return one_frame(torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1))


def standardised(vae: Any, encoded: Float[Tensor, "1 c one h w"]) -> Latents:
    """The frame's, by the mean and the deviation of each channel that the configuration tells."""
    mean, deviation = (
        encoded.new_tensor(vae.config[name]).view(1, -1, 1, 1) for name in ("latents_mean", "latents_std")
    )
    return (encoded.squeeze(2) - mean) / deviation


def as_it_is(pixels: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c h w"]:
    """A picture is a picture."""
    return pixels


@dataclass(frozen=True)
class Picture:
    """How one pass over a picture is made.

    `inputs`: the denoiser's, by name. `pixels`: what its autoencoder encodes, `latents`: what is denoised, of
    (autoencoder, the encoded picture). `square`: it puts its patches together as a square, whatever it was
    given. `patch`: latent pixels a side of a token, where its configuration has no `patch_size`. `even`: its
    sides are multiples of so many tokens. `spare`: the encoders that a pipeline does without. `most`: how
    many tokens it sees at most, None for any number. `refused`: why a pipeline cannot be passed a picture
    through, empty where it can.
    """

    inputs: Callable[[PicturePass], Inputs]
    pixels: Callable[[Tensor], Tensor] = as_it_is
    latents: Callable[[Any, Tensor], Latents] = scaled
    square: bool = False
    patch: int = 1
    even: int = 1
    spare: Callable[[Any], frozenset[str]] = nothing_spared
    most: Callable[[Any], int | None] = any_number
    refused: Callable[[Any], str] = nothing_unusual


def longest_text(pipe: Any) -> int | None:
    """The `max_sequence_length` that captions are encoded with, None where the pipeline has none."""
    asked = inspect.signature(pipe.encode_prompt).parameters.get("max_sequence_length")
    return None if asked is None else asked.default
