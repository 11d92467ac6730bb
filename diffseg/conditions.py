"""What each family's denoiser is called with, beside the latents' values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.channels import mask_channels
from diffseg.sizes import config_of, pixels_per_latent
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.pipelines import denoiser_of

Latents = Float[Tensor, "1 c h w"]
Inputs = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Request:
    """One denoiser call: `time` is in the scheduler's timesteps; an empty `caption` is unconditional.

    `image` is what `latents` are without noise.
    """

    pipe: Any
    latents: Latents
    image: Latents
    time: float
    caption: str = ""

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
        return torch.tensor([self.time * scale], device=self.device)

    def numbers(self, *values: float) -> Float[Tensor, "1 k"]:
        return torch.tensor([values], device=self.device, dtype=self.latents.dtype)


def _with_mask(request: Request) -> Float[Tensor, "1 c_in h w"]:
    """The latents; for inpainting models a mask of zeros too, which keeps all of the image, and the image."""
    if not mask_channels(request.pipe):
        return request.latents
    return torch.cat([request.latents, torch.zeros_like(request.latents[:, :1]), request.image], 1)


def aesthetics(pipe: Any) -> bool:
    """Whether the UNet takes an aesthetic score, as SDXL's refiner does."""
    return bool(getattr(pipe, "config", {}).get("requires_aesthetics_score", False))


def _unet(request: Request) -> Inputs:
    pipe = request.pipe
    inputs: Inputs = {"sample": _with_mask(request), "timestep": request.times()}
    if config_of(pipe).get("addition_embed_type") == "text_time":
        return inputs | _unet_xl(request)
    text = pipe.encode_prompt(request.caption, request.device, 1, False)[0]
    return inputs | {"encoder_hidden_states": text}


def _unet_xl(request: Request) -> Inputs:
    """SDXL: its own unconditional context (zeros, in the published model), no crop, the size worked at.

    Its refiner's aesthetic score is the one that the pipeline has for text, or for none.
    """
    pipe = request.pipe
    found = pipe.encode_prompt(request.caption, device=request.device, do_classifier_free_guidance=True)
    text, pooled = (found[0], found[2]) if request.caption else (found[1], found[3])
    last: tuple[float, ...] = request.size
    if aesthetics(pipe):
        name = "aesthetic_score" if request.caption else "negative_aesthetic_score"
        last = (inspect.signature(pipe.__call__).parameters[name].default,)
    micro = request.numbers(*request.size, 0, 0, *last)
    return {
        "encoder_hidden_states": text,
        "added_cond_kwargs": {"text_embeds": pooled, "time_ids": micro},
    }


def _unet_unconditional(request: Request) -> Inputs:
    return {"sample": request.latents, "timestep": request.times()}


def _dit(request: Request) -> Inputs:
    """The null class, one past the last."""
    null = torch.tensor([config_of(request.pipe)["num_embeds_ada_norm"]], device=request.device)
    return {"hidden_states": request.latents, "timestep": request.times(), "class_labels": null}


def _pixart(request: Request) -> Inputs:
    pipe, (height, width) = request.pipe, request.size
    text, mask, *_ = pipe.encode_prompt(request.caption, False, device=request.device)
    micro: Inputs = {"resolution": None, "aspect_ratio": None}
    if config_of(pipe).get("sample_size") == 128:  # as the pipeline has it
        micro = {
            "resolution": request.numbers(height, width),
            "aspect_ratio": request.numbers(height / width),
        }
    return {
        "hidden_states": request.latents,
        "timestep": request.times(),
        "encoder_hidden_states": text,
        "encoder_attention_mask": mask,
        "added_cond_kwargs": micro,
    }


def _sd3(request: Request) -> Inputs:
    caption = request.caption
    found = request.pipe.encode_prompt(
        caption, caption, caption, device=request.device, do_classifier_free_guidance=False
    )
    return {
        "hidden_states": _with_mask(request),
        "timestep": request.times(),
        "encoder_hidden_states": found[0],
        "pooled_projections": found[2],
    }


def _packed(latents: Latents) -> Float[Tensor, "1 n 4*c"]:
    """Squares of 2×2 in tokens."""
    height, width = latents.shape[-2:]
    squares = latents.unflatten(3, (width // 2, 2)).unflatten(2, (height // 2, 2))
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _flux(request: Request) -> Inputs:
    """Packed latents, positions of tokens; guidance-distilled models at guidance 1.

    For Fill the image and a mask of zeros follow, which keeps all of it.
    """
    pipe, (height, width) = request.pipe, request.latents.shape[-2:]
    text, pooled, text_ids = pipe.encode_prompt(
        request.caption, device=request.device, max_sequence_length=longest_text(pipe)
    )
    tokens, mask = _packed(request.latents), mask_channels(pipe)
    if mask:
        empty = tokens.new_zeros(*tokens.shape[:2], mask)
        tokens = torch.cat([tokens, _packed(request.image), empty], -1)
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    image_ids = torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1)
    distilled = config_of(pipe).get("guidance_embeds", False)
    return {
        "hidden_states": tokens,
        "timestep": request.times(1 / 1000),
        "encoder_hidden_states": text,
        "pooled_projections": pooled,
        "txt_ids": text_ids,
        "img_ids": image_ids.to(request.device, request.latents.dtype),
        "guidance": request.numbers(1.0)[0] if distilled else None,
    }


CONDITIONS: Mapping[str, Callable[[Request], Inputs]] = {
    "UNet2DConditionModel": _unet,
    "UNet2DModel": _unet_unconditional,
    "DiTTransformer2DModel": _dit,
    "PixArtTransformer2DModel": _pixart,
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
}
WITHOUT_TEXT = ("UNet2DModel", "DiTTransformer2DModel")


def supported(pipe: Any) -> str:
    """The name in `CONDITIONS` of the pipeline's denoiser or nearest base; UnsupportedError without one."""
    bases = [base.__name__ for base in type(denoiser_of(pipe)).__mro__]
    for name in bases:
        if name in CONDITIONS:
            return name
    raise UnsupportedError(f"cannot segment with {bases[0]}; supported: {', '.join(CONDITIONS)}")


def longest_text(pipe: Any) -> int | None:
    """The `max_sequence_length` that captions are encoded with, None where the pipeline has none."""
    asked = inspect.signature(pipe.encode_prompt).parameters.get("max_sequence_length")
    if asked is None:
        return None
    flux = supported(pipe) == "FluxTransformer2DModel"
    return min(asked.default, pipe.tokenizer_2.model_max_length) if flux else asked.default


def denoiser_inputs(request: Request) -> Inputs:
    """The denoiser's inputs by name; UnsupportedError for a caption to a model that reads no text."""
    if request.caption:
        check_text(request.pipe)
    return CONDITIONS[supported(request.pipe)](request)


def check_text(pipe: Any) -> None:
    """Raise UnsupportedError where the denoiser reads no text."""
    if supported(pipe) in WITHOUT_TEXT:
        raise UnsupportedError(f"{type(pipe).__name__} reads no text, so it cannot name segments")
